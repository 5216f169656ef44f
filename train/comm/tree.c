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
    comm_data_t *data;
    comm_t *comm;
    device_t *device;
    const vector_calls_t *vector;
    int64_t n;
    float *out;           /* [n] the sum; one of the buffers until then */
    int64_t M, next, end; /* this step: micro-batches, this rank's next one, the end of its share */
    node_t *nodes;        /* all buffers: nodes[0..live) in leaf order have theirs, the rest are spare */
    int64_t live, count, cap;
};

status_t tree_open(comm_data_t *d, const vector_calls_t *vector, int64_t n, float *sum, tree_t **out) {
    assert(n >= 0);
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(tree_t), "reduction tree"));
    tree_t *t = p;
    *t = (tree_t){
        .data = d, .comm = comm_data_control(d), .device = comm_data_device(d), .vector = vector, .n = n, .out = sum};
    *out = t;
    return ST_OK;
}

void tree_close(tree_t *t) {
    if (!t) return;
    for (int64_t i = 0; i < t->count; i++)
        if (t->nodes[i].sum != t->out) device_release(t->device, t->nodes[i].sum);
    free(t->nodes);
    free(t);
}

static status_t reserve(tree_t *t, int64_t count) {
    void *p = t->nodes;
    TRY(buf_reserve(&p, &t->cap, count, sizeof *t->nodes, "reduction tree"));
    t->nodes = p;
    if (!t->count) t->nodes[t->count++].sum = t->out;
    for (; t->count < count; t->count++) {
        TRY(device_alloc(t->device, (size_t)t->n * sizeof(float), "reduction tree", &p));
        t->nodes[t->count].sum = p;
    }
    return ST_OK;
}

status_t tree_begin(tree_t *t, int64_t M) {
    assert(M >= 1);
    t->M = M;
    t->live = 0;
    tree_share(M, comm_size(t->comm), comm_rank(t->comm), &t->next, &t->end);
    return reserve(t, tree_nodes(t->next, t->end, M));
}

float *tree_leaf(tree_t *t) {
    assert(t->next < t->end && t->live < t->count);
    float *leaf = t->nodes[t->live].sum;
    device_zero(t->device, leaf, (size_t)t->n * sizeof *leaf);
    return leaf;
}

static void add(const tree_t *t, float *left, const float *right) {
    t->vector->add(t->device, left, right, t->n);
}

/* Merges nodes at and at + 1 of the list; the freed buffer goes to the end of the live part. */
static void fold(tree_t *t, int64_t at) {
    node_t *left = &t->nodes[at], *right = left + 1;
    add(t, left->sum, right->sum);
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

static void send(tree_t *t, int64_t at, int to) {
    comm_data_send(t->data, t->nodes[at].sum, t->n, to);
    comm_data_join(t->data); /* before the buffer is used again */
    drop(t, at);
}

static void receive(tree_t *t, int64_t left, int from) {
    assert(t->live < t->count);
    node_t *node = &t->nodes[left];
    float *message = t->nodes[t->live].sum;
    comm_data_recv(t->data, message, t->n, from);
    comm_data_join(t->data);
    add(t, node->sum, message);
    node->level++;
    node->index /= 2;
    promote(t, node);
}

/* The root is where the first micro-batch's gradient was written: a merge happens in the left child's buffer, and rank
 * 0 gives none of its own away, so its first one is always the one for the sum. */
void tree_finish(tree_t *t) {
    assert(t->next == t->end);
    int me = comm_rank(t->comm);
    tree_merge_t m = {.M = t->M, .size = comm_size(t->comm)};
    while (tree_next(&m)) {
        if (m.into != me && m.from != me) continue;
        if (m.into != me) {
            int64_t right = find(t, m.level, m.right);
            assert(right >= 0);
            send(t, right, m.into);
            continue;
        }
        int64_t left = find(t, m.level, m.right - 1);
        if (m.from != me) {
            assert(left >= 0);
            receive(t, left, m.from);
        } else if (left >= 0) { /* else folded while the micro-batches ran */
            fold(t, left);
            promote(t, &t->nodes[left]);
        }
    }
    assert(t->live == (me == 0 ? 1 : 0) && (me != 0 || t->nodes[0].sum == t->out));
    comm_data_bcast(t->data, t->out, t->n, 0);
    comm_data_join(t->data);
}
