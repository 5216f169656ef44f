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
    float sum[CPU_QUERY_ROWS];
    cpu_gemm('N', 'T', rows, count, at->dim, at->scale, at->q, at->q_stride, at->k, at->kv_stride, 0.0f, s, count);
    for (int64_t i = 0; i < rows; i++)
        sum[i] = softmax_row(s + i * count, count - rows + i + 1, count, lse ? lse + i * lse_stride : NULL);
    cpu_gemm('N', 'N', rows, at->dim, count, 1.0f, s, count, at->v, at->kv_stride, 0.0f, o, at->q_stride);
    for (int64_t i = 0; i < rows; i++) scale_row(o + i * at->q_stride, at->dim, 1.0f / sum[i]);
}

size_t cpu_attention_scratch(const op_io_t *io) {
    return cpu_scratch_bytes(0, 2 * CPU_QUERY_ROWS * io->in[ATTENTION_Q].dim[0]);
}

static cpu_heads_t heads_of(const op_io_t *io, int64_t first, int64_t h) {
    const attention_attr_t *at = io->attr;
    int64_t dim = at->head_dim, q_stride = at->heads * dim, kv_stride = at->kv_heads * dim;
    int64_t kv = first * kv_stride + h / (at->heads / at->kv_heads) * dim;
    return (cpu_heads_t){.q = (const float *)io->in[ATTENTION_Q].data + first * q_stride + h * dim,
                         .k = (const float *)io->in[ATTENTION_K].data + kv,
                         .v = io->in[ATTENTION_V].data ? (const float *)io->in[ATTENTION_V].data + kv : NULL,
                         .q_stride = q_stride,
                         .kv_stride = kv_stride,
                         .dim = dim,
                         .scale = (float)at->scale};
}

void cpu_attention_fwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    float *o = io->out[ATTENTION_O].data, *lse = io->out[ATTENTION_LSE].data;
    int64_t tasks = (io->in[ATTENTION_CU].dim[0] - 1) * at->heads,
            part = 2 * CPU_QUERY_ROWS * io->in[ATTENTION_Q].dim[0];
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t s = t / at->heads, h = t % at->heads, length = cu[s + 1] - cu[s];
        for (int64_t i = 0; i < length; i += CPU_QUERY_ROWS) {
            int64_t rows = cpu_min(CPU_QUERY_ROWS, length - i), row = cu[s] + i;
            cpu_heads_t heads = heads_of(io, cu[s], h);
            heads.q += i * heads.q_stride;
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

/* Gradients of the queries first+i ... of one head; dk and dv are added to. */
static void backward_block(const op_io_t *io, int64_t first, int64_t i, int64_t rows, int64_t h, float *dk, float *dv) {
    const attention_attr_t *at = io->attr;
    cpu_heads_t heads = heads_of(io, first, h);
    int64_t count = i + rows, q_stride = heads.q_stride, kv_stride = heads.kv_stride, dim = heads.dim;
    int64_t place = (first + i) * q_stride + h * dim;
    const float *q = heads.q + i * q_stride,
                *lse = (const float *)io->out[ATTENTION_LSE].data + (first + i) * at->heads + h;
    const float *dout = (const float *)io->gout.data + place;
    float *dq = io->gin[ATTENTION_Q].data;
    float *p = cpu_thread_scratch(io, 0, 2 * CPU_QUERY_ROWS * io->in[ATTENTION_Q].dim[0]), *dp = p + rows * count;

    cpu_gemm('N', 'T', rows, count, dim, heads.scale, q, q_stride, heads.k, kv_stride, 0.0f, p, count);
    for (int64_t r = 0; r < rows; r++) probability_row(p + r * count, i + r + 1, count, lse[r * at->heads]);
    if (dv) cpu_gemm('T', 'N', count, dim, rows, 1.0f, p, count, dout, q_stride, 1.0f, dv, kv_stride);
    if (!dq && !dk) return;
    const float *o = (const float *)io->out[ATTENTION_O].data + place;
    cpu_gemm('N', 'T', rows, count, dim, 1.0f, dout, q_stride, heads.v, kv_stride, 0.0f, dp, count);
    for (int64_t r = 0; r < rows; r++)
        score_gradient_row(p + r * count, dp + r * count, count, dout + r * q_stride, o + r * q_stride, dim);
    if (dq)
        cpu_gemm('N', 'N', rows, dim, count, heads.scale, p, count, heads.k, kv_stride,
                 io->acc[ATTENTION_Q] ? 1.0f : 0.0f, dq + place, q_stride);
    if (dk) cpu_gemm('T', 'N', count, dim, rows, heads.scale, p, count, q, q_stride, 1.0f, dk, kv_stride);
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

/* A task owns one key head of one sequence, so the sums over its query heads and blocks have one order. */
void cpu_attention_bwd(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    int64_t tasks = (io->in[ATTENTION_CU].dim[0] - 1) * at->kv_heads, group = at->heads / at->kv_heads;
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < tasks; t++) {
        int64_t s = t / at->kv_heads, kv = t % at->kv_heads, length = cu[s + 1] - cu[s];
        float *dk = key_gradient(io, ATTENTION_K, cu[s], length, kv);
        float *dv = key_gradient(io, ATTENTION_V, cu[s], length, kv);
        for (int64_t h = kv * group; h < (kv + 1) * group; h++)
            for (int64_t i = 0; i < length; i += CPU_QUERY_ROWS)
                backward_block(io, cu[s], i, cpu_min(CPU_QUERY_ROWS, length - i), h, dk, dv);
    }
}
