#include "kernels/ops/attention.h"
#include "kernels/cpu/attention_keys.h"
#include "kernels/cpu/score_rows.h"

/* A task is a block of QUERIES queries of one head. Scores of the block against all keys that it sees live in scratch:
 * the memory grows with the length of a sequence, not with its square. Keys after the block are never touched, and
 * inside it rows and columns are left out in steps of a few. Keys and values are packed first, once per key head. */
enum { QUERIES = 64, KEYS = 128 /* of whose values a panel stays in the nearest cache */ };

typedef struct plan {
    int64_t row;             /* floats that the packed keys and values of one key take */
    int64_t shared;          /* floats of all packed keys and values */
    int64_t score_row, part; /* floats of a row of scores and of a thread */
} plan_t;

static plan_t plan_of(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    int64_t sequences = io->in[ATTENTION_CU].dim[0] - 1, keys = attention_most_keys(io);
    plan_t p = {.row = at->head_dim + panel_round(at->head_dim)};
    p.shared = panel_round((keys + sequences * PANEL) * at->kv_heads * p.row);
    p.score_row = attention_score_row(keys);
    p.part = (QUERIES + 2 * PANEL_ROWS) * (p.score_row + panel_round(at->head_dim));
    return p;
}

size_t cpu_attention_scratch(const op_io_t *io) {
    plan_t p = plan_of(io);
    size_t forward = cpu_scratch_bytes(p.shared, p.part), backward = cpu_attention_bwd_scratch(io);
    return forward > backward ? forward : backward;
}

/* Where the packed keys of a key head stand; its values follow. */
static float *packed(const op_io_t *io, const plan_t *p, const attention_keys_t *keys) {
    const attention_attr_t *at = io->attr;
    int64_t before = keys->first + keys->prefix_first + keys->s * PANEL;
    return (float *)io->scratch + (before * at->kv_heads + keys->kv * panel_round(keys->count)) * p->row;
}

static void pack(const op_io_t *io, const plan_t *p, int64_t s, int64_t kv) {
    const attention_attr_t *at = io->attr;
    attention_keys_t keys = attention_keys(io, s, kv);
    float *to = packed(io, p, &keys);
    attention_pack_columns(io, &keys, ATTENTION_K, ATTENTION_PREFIX_K, (float)at->scale, to);
    attention_pack_rows(io, &keys, ATTENTION_V, ATTENTION_PREFIX_V, 1, to + panel_round(keys.count) * at->head_dim);
}

/* Queries i, i + 1, ... of sequence s and head h. */
static void forward_block(const op_io_t *io, const plan_t *p, int64_t s, int64_t i, int64_t h) {
    const attention_attr_t *at = io->attr;
    attention_keys_t keys = attention_keys(io, s, h / (at->heads / at->kv_heads));
    int64_t dim = at->head_dim, stride = at->heads * dim, row = keys.first + i, seen = keys.prefix + i + 1;
    int64_t rows = cpu_min(QUERIES, keys.length - i), count = seen + rows - 1, step = attention_score_row(count);
    float *scores = cpu_thread_scratch(io, p->shared, p->part), *o = scores + (QUERIES + 2 * PANEL_ROWS) * step;
    const float *k = packed(io, p, &keys), *v = k + panel_round(keys.count) * dim;
    float *lse = (float *)io->out[ATTENTION_LSE].data + row * at->heads + h, inverse[QUERIES];

    attention_scores((const float *)io->in[ATTENTION_Q].data + row * stride + h * dim, stride, rows, dim, k, count,
                     seen, scores, step);
    const score_rows_t softmax = {.s = scores, .rows = rows, .step = step, .seen = seen, .most = count};
    score_softmax(&softmax, lse, at->heads, inverse);
    for (int64_t j = 0; j < count; j += KEYS)
        for (int64_t c = 0; c < dim; c += PANEL) {
            const panel_product_t product = {.a = scores + j,
                                             .a_step = step,
                                             .b = v + c * panel_round(keys.count) + j * PANEL,
                                             .c = o + c * (QUERIES + 2 * PANEL_ROWS),
                                             .c_step = PANEL,
                                             .rows = rows,
                                             .count = cpu_min(KEYS, count - j),
                                             .seen = seen - j,
                                             .acc = j > 0};
            panel_by_rows(&product);
        }
    panel_read(o, QUERIES + 2 * PANEL_ROWS, rows, dim, inverse, false,
               (float *)io->out[ATTENTION_O].data + row * stride + h * dim, stride);
}

/* Task t in the order of sequences, blocks and heads. */
static void forward_task(const op_io_t *io, const plan_t *p, int64_t t) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    int64_t block = t / at->heads, s = 0;
    for (; block >= cpu_parts(cu[s + 1] - cu[s], QUERIES); s++) block -= cpu_parts(cu[s + 1] - cu[s], QUERIES);
    forward_block(io, p, s, block * QUERIES, t % at->heads);
}

void cpu_attention_fwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    const plan_t p = plan_of(io);
    int64_t sequences = io->in[ATTENTION_CU].dim[0] - 1, blocks = 0;
    for (int64_t s = 0; s < sequences; s++) blocks += cpu_parts(cu[s + 1] - cu[s], QUERIES);
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < sequences * at->kv_heads; t++) pack(io, &p, t / at->kv_heads, t % at->kv_heads);
#pragma omp for schedule(dynamic)
        for (int64_t t = 0; t < blocks * at->heads; t++) forward_task(io, &p, t);
    }
}
