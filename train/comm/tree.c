#include "train/comm/tree.h"
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/comm/tree_plan.h"

/* A partial sum that still waits for its sibling. */
typedef struct node {
    int level;
    int64_t index;
    float *sum; /* [n] */
} node_t;

struct tree {
    comm_t *comm;
    int64_t n, max_micro;
    int64_t M, next, end; /* this step: micro-batches, this rank's next one, the end of its share */
    /* All buffers: nodes[0..live) in leaf order own theirs, the rest are spare. Buffers that are never needed are never
     * touched, so they cost address space only. */
    node_t *nodes;
    int64_t live, count;
};

/* Nodes that a share of s micro-batches can leave unmerged: at most one per level on its left and on its right side
 * while it is being filled; one more is the leaf being written, one the message being received. */
static int64_t nodes_needed(int64_t s) {
    int64_t levels = 1;
    while ((int64_t)1 << levels <= s) levels++;
    return 2 * levels + 2;
}

status_t tree_open(comm_t *c, int64_t n, int64_t max_micro, tree_t **out) {
    assert(n >= 0 && max_micro >= 1);
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(tree_t), "reduction tree"));
    tree_t *t = p;
    status_t st = ST_OK;
    int64_t lo, hi;
    t->comm = c;
    t->n = n;
    t->max_micro = max_micro;
    tree_share(max_micro, comm_size(c), 0, &lo, &hi); /* rank 0 has the longest share */
    int64_t count = nodes_needed(hi - lo);
    TRY_GOTO(buf_calloc(&p, count, sizeof(node_t), "reduction tree"), free_tree);
    t->nodes = p;
    for (; t->count < count; t->count++) {
        TRY_GOTO(buf_calloc(&p, n, sizeof(float), "reduction tree"), free_tree);
        t->nodes[t->count].sum = p;
    }
    *out = t;
    return ST_OK;
free_tree:
    tree_close(t);
    return st;
}

void tree_close(tree_t *t) {
    if (!t) return;
    for (int64_t i = 0; i < t->count; i++) free(t->nodes[i].sum);
    free(t->nodes);
    free(t);
}

void tree_begin(tree_t *t, int64_t M) {
    assert(M >= 1 && M <= t->max_micro);
    t->M = M;
    t->live = 0;
    tree_share(M, comm_size(t->comm), comm_rank(t->comm), &t->next, &t->end);
}

float *tree_leaf(tree_t *t) {
    assert(t->next < t->end && t->live < t->count);
    float *leaf = t->nodes[t->live].sum;
    memset(leaf, 0, (size_t)t->n * sizeof *leaf);
    return leaf;
}

static void add(float *restrict left, const float *restrict right, int64_t n) {
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) left[i] += right[i];
}

/* Merges nodes at and at + 1 of the list; the freed buffer goes to the end of the live part. */
static void fold(tree_t *t, int64_t at) {
    node_t *left = &t->nodes[at], *right = left + 1;
    add(left->sum, right->sum, t->n);
    left->level++;
    left->index /= 2;
    float *spare = right->sum;
    memmove(right, right + 1, (size_t)(t->live - at - 2) * sizeof *right);
    t->nodes[--t->live].sum = spare;
}

/* A left child without a right sibling is its parent. */
static void promote(const tree_t *t, node_t *node) {
    while (node->index % 2 == 0 && (node->index + 1) << node->level >= t->M && (int64_t)1 << node->level < t->M) {
        node->level++;
        node->index /= 2;
    }
}

void tree_push(tree_t *t) {
    assert(t->next < t->end && t->live < t->count);
    node_t *node = &t->nodes[t->live++];
    node->level = 0;
    node->index = t->next++;
    for (;;) {
        node = &t->nodes[t->live - 1];
        promote(t, node);
        if (node->index % 2 == 0 || t->live < 2) return;
        const node_t *left = node - 1;
        if (left->level != node->level || left->index != node->index - 1) return;
        fold(t, t->live - 2);
    }
}

/* Position of a node in the list, -1 when it is not there. */
static int64_t find(const tree_t *t, int level, int64_t index) {
    for (int64_t i = 0; i < t->live; i++)
        if (t->nodes[i].level == level && t->nodes[i].index == index) return i;
    return -1;
}

static void drop(tree_t *t, int64_t at) {
    float *spare = t->nodes[at].sum;
    memmove(&t->nodes[at], &t->nodes[at + 1], (size_t)(t->live - at - 1) * sizeof *t->nodes);
    t->nodes[--t->live].sum = spare;
}

status_t tree_finish(tree_t *t, float *out) {
    assert(t->next == t->end);
    int me = comm_rank(t->comm);
    tree_merge_t m = {.M = t->M, .size = comm_size(t->comm)};
    while (tree_next(&m)) {
        if (m.into != me && m.from != me) continue;
        if (m.into == m.from) {
            int64_t left = find(t, m.level, m.right - 1);
            if (left < 0) continue; /* folded while the micro-batches ran */
            fold(t, left);
            promote(t, &t->nodes[left]);
        } else if (m.from == me) {
            int64_t right = find(t, m.level, m.right);
            assert(right >= 0);
            TRY(comm_send_f32(t->comm, t->nodes[right].sum, t->n, m.into));
            drop(t, right);
        } else {
            int64_t left = find(t, m.level, m.right - 1);
            assert(left >= 0 && t->live < t->count);
            float *message = t->nodes[t->live].sum;
            TRY(comm_recv_f32(t->comm, message, t->n, m.from));
            node_t *node = &t->nodes[left];
            add(node->sum, message, t->n);
            node->level++;
            node->index /= 2;
            promote(t, node);
        }
    }
    assert(t->live == (me == 0 ? 1 : 0));
    if (me == 0) memcpy(out, t->nodes[0].sum, (size_t)t->n * sizeof *out);
    return comm_bcast(t->comm, out, t->n * (int64_t)sizeof *out, 0);
}
