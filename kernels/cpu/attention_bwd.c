#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/score_rows.h"

/* A task owns one key head of one sequence: for blocks of queries by blocks of keys, it makes probabilities again from
 * lse and sums the gradients of keys and values over query heads and blocks in their order. Where there are few key
 * heads in all, a task owns one query head, and its group's sums are added at the end. */
enum { QUERIES = 64, QUERY_ROOM = QUERIES + 2 * PANEL_ROWS, KEYS = 64, FEW = 8 };

/* Where things lie in a thread's scratch, in floats. */
typedef struct plan {
    int64_t k_columns, v_columns, k_rows; /* packed keys and values, each [keys, dim] */
    int64_t sums;                         /* gradients of keys and values, in panels */
    int64_t q, dout, dq;                  /* a block's queries, outgoing gradients and gradients, in panels */
    int64_t p, dp;                        /* scores */
    int64_t part;                         /* all of it */
    int64_t shared; /* in front of threads' scratch: sums of all query heads where a key head has several */
    int64_t wide;   /* head_dim in whole panels */
} plan_t;

static plan_t plan_of(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    int64_t sequences = io->in[ATTENTION_CU].dim[0] - 1, keys = attention_most_keys(io), all = keys + sequences * PANEL;
    int64_t most = panel_round(keys), wide = panel_round(at->head_dim), scores = QUERY_ROOM * attention_score_row(KEYS);
    plan_t p = {.v_columns = most * wide, .wide = wide};
    p.k_rows = p.v_columns + most * wide;
    p.sums = p.k_rows + most * wide;
    p.q = p.sums + 2 * most * wide;
    p.dout = p.q + QUERIES * wide;
    p.dq = p.dout + QUERIES * wide;
    p.p = p.dq + QUERY_ROOM * wide;
    p.dp = p.p + scores;
    p.part = p.dp + scores;
    p.shared = at->heads > at->kv_heads ? all * at->heads * 2 * wide : 0;
    return p;
}

size_t cpu_attention_bwd_scratch(const op_io_t *io) {
    plan_t p = plan_of(io);
    return cpu_scratch_bytes(p.shared, p.part);
}

/* One task. */
typedef struct task {
    const op_io_t *io;
    attention_keys_t keys;
    bool want_q, want_k, want_v;
    float *k_columns, *v_columns, *k_rows, *dk, *dv, *q, *dout, *dq, *p, *dp;
    int64_t depth, wide;
} task_t;

static bool wanted(const op_io_t *io, int one, int other) {
    return io->gin[one].data || io->gin[other].data;
}

/* Keys without whose gradients all is made are left out: the inputs that they need may not be at hand. */
static attention_keys_t keys_in_question(const op_io_t *io, int64_t s, int64_t kv) {
    attention_keys_t keys = attention_keys(io, s, kv);
    bool dq = io->gin[ATTENTION_Q].data;
    if (!dq && !wanted(io, ATTENTION_PREFIX_K, ATTENTION_PREFIX_V)) keys.prefix = 0;
    keys.count = keys.prefix + (dq || wanted(io, ATTENTION_K, ATTENTION_V) ? keys.length : 0);
    return keys;
}

/* c += (transposed) scores times panels, over all panels. */
static void gradient(const task_t *t, panel_product_t product, int64_t b_depth, int64_t c_depth,
                     void (*multiply)(const panel_product_t *)) {
    product.a_step = attention_score_row(KEYS);
    product.c_step = PANEL;
    for (int64_t c = 0; c < t->wide; c += PANEL) {
        multiply(&product);
        product.b += b_depth * PANEL;
        product.c += c_depth * PANEL;
    }
}

/* A block of queries: rows i, i + 1, ... of the sequence, head h. */
static void backward_block(const task_t *t, int64_t h, int64_t i) {
    const op_io_t *io = t->io;
    const attention_attr_t *at = io->attr;
    int64_t dim = at->head_dim, stride = at->heads * dim, first = t->keys.first + i, offset = first * stride + h * dim;
    int64_t rows = cpu_min(QUERIES, t->keys.length - i), count = cpu_min(t->keys.count, t->keys.prefix + i + rows);
    int64_t step = attention_score_row(KEYS);
    const float *q = (const float *)io->in[ATTENTION_Q].data + offset, *dout = (const float *)io->gout.data + offset;
    const float *lse = (const float *)io->out[ATTENTION_LSE].data + first * at->heads + h;
    bool want_scores = t->want_q || t->want_k;
    float dots[QUERIES] = {0};

    if (want_scores) score_dots(dout, (const float *)io->out[ATTENTION_O].data + offset, stride, rows, dim, dots);
    if (t->want_k) panel_copy(q, stride, rows, dim, (float)at->scale, QUERIES, t->q);
    if (t->want_v) panel_copy(dout, stride, rows, dim, 1, QUERIES, t->dout);
    for (int64_t j = 0; j < count; j += KEYS) {
        int64_t keys = cpu_min(KEYS, count - j), seen = t->keys.prefix + i + 1 - j;
        attention_scores(q, stride, rows, dim, t->k_columns + j * dim, keys, seen, t->p, step);
        if (want_scores) attention_scores(dout, stride, rows, dim, t->v_columns + j * dim, keys, seen, t->dp, step);
        const score_rows_t scores = {.s = t->p, .rows = rows, .step = step, .seen = seen, .most = keys};
        score_gradient(&scores, t->dp, lse, at->heads, dots);
        const panel_product_t by_key = {.rows = keys, .count = rows, .seen = seen, .acc = true};
        if (t->want_v) {
            panel_product_t product = by_key;
            product.a = t->p, product.b = t->dout, product.c = t->dv + j * PANEL;
            gradient(t, product, QUERIES, t->depth, panel_by_columns);
        }
        if (t->want_k) {
            panel_product_t product = by_key;
            product.a = t->dp, product.b = t->q, product.c = t->dk + j * PANEL;
            gradient(t, product, QUERIES, t->depth, panel_by_columns);
        }
        if (t->want_q) {
            const panel_product_t product = {.a = t->dp,
                                             .b = t->k_rows + j * PANEL,
                                             .c = t->dq,
                                             .rows = rows,
                                             .count = keys,
                                             .seen = seen,
                                             .acc = j > 0};
            gradient(t, product, t->depth, QUERY_ROOM, panel_by_rows);
        }
    }
    if (t->want_q)
        panel_read(t->dq, QUERY_ROOM, rows, dim, NULL, io->acc[ATTENTION_Q],
                   (float *)io->gin[ATTENTION_Q].data + offset, stride);
}

/* The sums of a key head (or of query head h, of the group's heads) go to the gradients of input `own` and its
 * counterpart of the prefix. */
static void write_sums(const op_io_t *io, const attention_keys_t *keys, int own, int prefix, const float *sums) {
    const attention_attr_t *at = io->attr;
    int64_t dim = at->head_dim, stride = at->kv_heads * dim, depth = panel_round(keys->count), column = keys->kv * dim;
    float *to = io->gin[own].data, *to_prefix = io->gin[prefix].data;
    if (to)
        panel_read(sums + keys->prefix * PANEL, depth, keys->length, dim, NULL, io->acc[own],
                   to + keys->first * stride + column, stride);
    if (to_prefix)
        panel_read(sums, depth, keys->prefix, dim, NULL, io->acc[prefix],
                   to_prefix + keys->prefix_first * stride + column, stride);
}

static void write_gradients(const op_io_t *io, const attention_keys_t *keys, const float *dk, const float *dv) {
    write_sums(io, keys, ATTENTION_K, ATTENTION_PREFIX_K, dk);
    write_sums(io, keys, ATTENTION_V, ATTENTION_PREFIX_V, dv);
}

/* Where the sums of query head h stand in shared scratch. */
static float *head_sums(const op_io_t *io, const plan_t *p, const attention_keys_t *keys, int64_t h) {
    const attention_attr_t *at = io->attr;
    int64_t before = keys->first + keys->prefix_first + keys->s * PANEL;
    return (float *)io->scratch + (before * at->heads + h * panel_round(keys->count)) * 2 * p->wide;
}

/* `heads` query heads from h on of sequence s, whose sums go to `sums` in shared scratch, or to the gradients. */
static void backward_heads(const op_io_t *io, const plan_t *p, int64_t s, int64_t h, int64_t heads, bool share) {
    const attention_attr_t *at = io->attr;
    float *scratch = cpu_thread_scratch(io, p->shared, p->part);
    task_t t = {.io = io,
                .keys = keys_in_question(io, s, h / (at->heads / at->kv_heads)),
                .want_q = io->gin[ATTENTION_Q].data,
                .want_k = wanted(io, ATTENTION_K, ATTENTION_PREFIX_K),
                .want_v = wanted(io, ATTENTION_V, ATTENTION_PREFIX_V),
                .k_columns = scratch + p->k_columns,
                .v_columns = scratch + p->v_columns,
                .k_rows = scratch + p->k_rows,
                .q = scratch + p->q,
                .dout = scratch + p->dout,
                .dq = scratch + p->dq,
                .p = scratch + p->p,
                .dp = scratch + p->dp,
                .wide = p->wide};
    t.depth = panel_round(t.keys.count);
    t.dk = share ? head_sums(io, p, &t.keys, h) : scratch + p->sums;
    t.dv = t.dk + t.depth * t.wide;
    memset(t.dk, 0, (size_t)(2 * t.depth * t.wide) * sizeof *t.dk);
    attention_pack_columns(io, &t.keys, ATTENTION_K, ATTENTION_PREFIX_K, (float)at->scale, t.k_columns);
    if (t.want_q || t.want_k) attention_pack_columns(io, &t.keys, ATTENTION_V, ATTENTION_PREFIX_V, 1, t.v_columns);
    if (t.want_q) attention_pack_rows(io, &t.keys, ATTENTION_K, ATTENTION_PREFIX_K, (float)at->scale, t.k_rows);
    for (int64_t head = h; head < h + heads; head++)
        for (int64_t i = 0; i < t.keys.length; i += QUERIES) backward_block(&t, head, i);
    if (!share) write_gradients(io, &t.keys, t.dk, t.dv);
}

GRAFT_CLONES static void add_sums(float *restrict sums, const float *restrict more, int64_t n) {
    for (int64_t i = 0; i < n; i++) sums[i] += more[i];
}

/* Adds the sums of a group's heads. */
static void sum_group(const op_io_t *io, const plan_t *p, int64_t s, int64_t kv) {
    const attention_attr_t *at = io->attr;
    int64_t group = at->heads / at->kv_heads;
    attention_keys_t keys = keys_in_question(io, s, kv);
    float *sums = head_sums(io, p, &keys, kv * group);
    int64_t one = panel_round(keys.count) * p->wide;
    for (int64_t h = 1; h < group; h++) add_sums(sums, sums + h * 2 * one, 2 * one);
    write_gradients(io, &keys, sums, sums + one);
}

void cpu_attention_bwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const plan_t p = plan_of(io);
    int64_t key_heads = (io->in[ATTENTION_CU].dim[0] - 1) * at->kv_heads, group = at->heads / at->kv_heads;
    bool share = key_heads < FEW && group > 1;
    int64_t heads = share ? 1 : group, parts = group / heads;
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < key_heads * parts; t++)
            backward_heads(io, &p, t * heads / at->heads, t * heads % at->heads, heads, share);
        if (share) {
#pragma omp for schedule(dynamic)
            for (int64_t t = 0; t < key_heads; t++) sum_group(io, &p, t / at->kv_heads, t % at->kv_heads);
        }
    }
}
