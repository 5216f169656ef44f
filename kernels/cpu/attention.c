#include "kernels/ops/attention.h"
#include <math.h>
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

/* Scores of a block of CPU_QUERY_ROWS queries against all the keys it sees live in scratch: the memory grows with the
 * length of a sequence, not with its square. Keys after the block are never touched. */

/* Turns a row of scores into exp(s - max) for the `seen` first and 0 for the rest; gives the sum and log-sum-exp. */
GRAFT_CLONES static float softmax_row(float *restrict s, int64_t seen, int64_t count, float *lse) {
    float max = vec_max(s, seen), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; j++) {
        float e = vec_exp(s[j] - max);
        s[j] = e;
        sum += e;
    }
    for (int64_t j = seen; j < count; j++) s[j] = 0;
    if (lse) *lse = max + logf(sum);
    return sum;
}

GRAFT_CLONES static void scale_row(float *x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

void cpu_attend(const cpu_heads_t *at, int64_t rows, int64_t count, float *s, float *o, float *lse,
                int64_t lse_stride) {
    float sum[CPU_QUERY_ROWS], *own = s + at->prefix;
    int64_t total = at->prefix + count;
    if (at->prefix)
        cpu_gemm('N', 'T', rows, at->prefix, at->dim, at->scale, at->q, at->q_stride, at->prefix_k, at->kv_stride, 0.0f,
                 s, total);
    cpu_gemm('N', 'T', rows, count, at->dim, at->scale, at->q, at->q_stride, at->k, at->kv_stride, 0.0f, own, total);
    for (int64_t i = 0; i < rows; i++)
        sum[i] = softmax_row(s + i * total, total - rows + i + 1, total, lse ? lse + i * lse_stride : NULL);
    if (at->prefix)
        cpu_gemm('N', 'N', rows, at->dim, at->prefix, 1.0f, s, total, at->prefix_v, at->kv_stride, 0.0f, o,
                 at->q_stride);
    cpu_gemm('N', 'N', rows, at->dim, count, 1.0f, own, total, at->v, at->kv_stride, at->prefix ? 1.0f : 0.0f, o,
             at->q_stride);
    for (int64_t i = 0; i < rows; i++) scale_row(o + i * at->q_stride, at->dim, 1.0f / sum[i]);
}

/* Floats of a thread: forward holds the scores of one block over all keys, backward the probabilities and their
 * gradients over a prefix or over the sequence's own keys. */
static int64_t thread_part(const op_io_t *io) {
    const view_t *prefix = &io->in[ATTENTION_PREFIX_K];
    return 2 * CPU_QUERY_ROWS * cpu_max(io->in[ATTENTION_Q].dim[0], prefix->rank ? prefix->dim[0] : 0);
}

size_t cpu_attention_scratch(const op_io_t *io) {
    return cpu_scratch_bytes(0, thread_part(io));
}

static const float *place(const view_t *v, int64_t offset) {
    return v->data ? (const float *)v->data + offset : NULL;
}

/* Head h of sequence s, its queries from row i on. What is not at hand stays NULL. */
static cpu_heads_t heads_of(const op_io_t *io, int64_t s, int64_t i, int64_t h) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data, *cup = io->in[ATTENTION_CU_PREFIX].data;
    int64_t dim = at->head_dim, q_stride = at->heads * dim, kv_stride = at->kv_heads * dim;
    int64_t column = h / (at->heads / at->kv_heads) * dim, kv = cu[s] * kv_stride + column;
    int64_t prefix_kv = (cup ? cup[s] : 0) * kv_stride + column;
    return (cpu_heads_t){.q = place(&io->in[ATTENTION_Q], (cu[s] + i) * q_stride + h * dim),
                         .k = place(&io->in[ATTENTION_K], kv),
                         .v = place(&io->in[ATTENTION_V], kv),
                         .prefix_k = place(&io->in[ATTENTION_PREFIX_K], prefix_kv),
                         .prefix_v = place(&io->in[ATTENTION_PREFIX_V], prefix_kv),
                         .prefix = cup ? cup[s + 1] - cup[s] : 0,
                         .q_stride = q_stride,
                         .kv_stride = kv_stride,
                         .dim = dim,
                         .scale = (float)at->scale};
}

void cpu_attention_fwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    float *o = io->out[ATTENTION_O].data, *lse = io->out[ATTENTION_LSE].data;
    int64_t tasks = (io->in[ATTENTION_CU].dim[0] - 1) * at->heads, part = thread_part(io);
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t s = t / at->heads, h = t % at->heads, length = cu[s + 1] - cu[s];
        for (int64_t i = 0; i < length; i += CPU_QUERY_ROWS) {
            int64_t rows = cpu_min(CPU_QUERY_ROWS, length - i), row = cu[s] + i;
            cpu_heads_t heads = heads_of(io, s, i, h);
            cpu_attend(&heads, rows, i + rows, cpu_thread_scratch(io, 0, part),
                       o + row * heads.q_stride + h * heads.dim, lse + row * at->heads + h, at->heads);
        }
    }
}

GRAFT_CLONES static void probability_row(float *restrict s, int64_t seen, int64_t count, float lse) {
    for (int64_t j = 0; j < seen; j++) s[j] = vec_exp(s[j] - lse);
    for (int64_t j = seen; j < count; j++) s[j] = 0;
}

/* p becomes ds = p (dp - sum_c do_c o_c). */
GRAFT_CLONES static void score_gradient_row(float *restrict p, const float *restrict dp, int64_t count,
                                            const float *restrict dout, const float *restrict o, int64_t dim) {
    float row = vec_dot(dout, o, dim);
    for (int64_t j = 0; j < count; j++) p[j] *= dp[j] - row;
}

/* A block of queries of one head in backward. */
typedef struct block {
    cpu_heads_t at;
    const float *dout, *o, *lse;
    int64_t rows, lse_stride;
    float *dq, *scratch;
} block_t;

/* Keys that a block sees: a prefix, of which every query sees all, or the sequence's own, of which the last query sees
 * all, the one before it one less and so on. dk and dv are added to. */
typedef struct keys {
    const float *k, *v;
    int64_t count;
    bool own;
    float *dk, *dv;
} keys_t;

/* The gradients that come from one kind of keys. dq is multiplied by dq_factor first. */
static void backward_keys(const block_t *b, const keys_t *y, float dq_factor) {
    int64_t count = y->count, rows = b->rows, q_stride = b->at.q_stride, kv_stride = b->at.kv_stride, dim = b->at.dim;
    float scale = b->at.scale, *p = b->scratch, *dp = p + rows * count;
    if (count == 0 || (!b->dq && !y->dk && !y->dv)) return;

    cpu_gemm('N', 'T', rows, count, dim, scale, b->at.q, q_stride, y->k, kv_stride, 0.0f, p, count);
    for (int64_t r = 0; r < rows; r++)
        probability_row(p + r * count, y->own ? count - rows + r + 1 : count, count, b->lse[r * b->lse_stride]);
    if (y->dv) cpu_gemm('T', 'N', count, dim, rows, 1.0f, p, count, b->dout, q_stride, 1.0f, y->dv, kv_stride);
    if (!b->dq && !y->dk) return;
    cpu_gemm('N', 'T', rows, count, dim, 1.0f, b->dout, q_stride, y->v, kv_stride, 0.0f, dp, count);
    for (int64_t r = 0; r < rows; r++)
        score_gradient_row(p + r * count, dp + r * count, count, b->dout + r * q_stride, b->o + r * q_stride, dim);
    if (b->dq) cpu_gemm('N', 'N', rows, dim, count, scale, p, count, y->k, kv_stride, dq_factor, b->dq, q_stride);
    if (y->dk) cpu_gemm('T', 'N', count, dim, rows, scale, p, count, b->at.q, q_stride, 1.0f, y->dk, kv_stride);
}

/* The place of a key head's gradient, zeroed unless it is added to. */
static float *key_gradient(const op_io_t *io, int input, int64_t first, int64_t length, int64_t kv) {
    const attention_attr_t *at = io->attr;
    int64_t stride = at->kv_heads * at->head_dim;
    if (!io->gin[input].data) return NULL;
    float *g = (float *)io->gin[input].data + first * stride + kv * at->head_dim;
    for (int64_t j = 0; !io->acc[input] && j < length; j++) memset(g + j * stride, 0, (size_t)at->head_dim * sizeof *g);
    return g;
}

/* Query head h of sequence s. */
static void backward_head(const op_io_t *io, int64_t s, int64_t h, keys_t own, keys_t prefix) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    int64_t length = cu[s + 1] - cu[s], part = thread_part(io);
    float *dq = io->gin[ATTENTION_Q].data;
    for (int64_t i = 0; i < length; i += CPU_QUERY_ROWS) {
        int64_t row = cu[s] + i;
        block_t b = {.at = heads_of(io, s, i, h), .rows = cpu_min(CPU_QUERY_ROWS, length - i), .lse_stride = at->heads};
        int64_t offset = row * b.at.q_stride + h * b.at.dim;
        b.dout = place(&io->gout, offset);
        b.o = place(&io->out[ATTENTION_O], offset);
        b.lse = place(&io->out[ATTENTION_LSE], row * at->heads + h);
        b.dq = dq ? dq + offset : NULL;
        b.scratch = cpu_thread_scratch(io, 0, part);
        own.k = b.at.k;
        own.v = b.at.v;
        own.count = i + b.rows;
        prefix.k = b.at.prefix_k;
        prefix.v = b.at.prefix_v;
        prefix.count = b.at.prefix;
        backward_keys(&b, &own, io->acc[ATTENTION_Q] ? 1.0f : 0.0f);
        backward_keys(&b, &prefix, 1.0f);
    }
}

/* A task owns one key head of one sequence and of its prefix, so the sums over its query heads and blocks have one
 * order. */
void cpu_attention_bwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data, *cup = io->in[ATTENTION_CU_PREFIX].data;
    int64_t tasks = (io->in[ATTENTION_CU].dim[0] - 1) * at->kv_heads, group = at->heads / at->kv_heads;
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t s = t / at->kv_heads, kv = t % at->kv_heads, length = cu[s + 1] - cu[s];
        keys_t own = {.own = true}, prefix = {.own = false};
        own.dk = key_gradient(io, ATTENTION_K, cu[s], length, kv);
        own.dv = key_gradient(io, ATTENTION_V, cu[s], length, kv);
        if (cup) {
            prefix.dk = key_gradient(io, ATTENTION_PREFIX_K, cup[s], cup[s + 1] - cup[s], kv);
            prefix.dv = key_gradient(io, ATTENTION_PREFIX_V, cup[s], cup[s + 1] - cup[s], kv);
        }
        for (int64_t h = kv * group; h < (kv + 1) * group; h++) backward_head(io, s, h, own, prefix);
    }
}
