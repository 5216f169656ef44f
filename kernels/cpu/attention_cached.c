#include "kernels/ops/attention_cached.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

/* Scores of a block of QUERIES queries against all the keys it sees live in scratch. */
enum { QUERIES = 64 };

typedef struct heads {
    const float *q, *k, *v;
    int64_t q_stride, kv_stride, dim;
    float scale;
} heads_t;

/* Turns a row of scores into exp(s - max) for the `seen` first and 0 for the rest; gives the sum. */
GRAFT_CLONES static float cached_softmax_row(float *restrict s, int64_t seen, int64_t count) {
    float max = vec_max(s, seen), sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t j = 0; j < seen; j++) {
        float e = vec_exp(s[j] - max);
        s[j] = e;
        sum += e;
    }
    for (int64_t j = seen; j < count; j++) s[j] = 0;
    return sum;
}

GRAFT_CLONES static void scale_row(float *x, int64_t n, float factor) {
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

/* `rows` <= QUERIES queries over keys, `count` of which the last query sees, the one before it one less and so on. */
static void attend(const heads_t *at, int64_t rows, int64_t count, float *s, float *o) {
    float sum[QUERIES];
    cpu_gemm('N', 'T', rows, count, at->dim, at->scale, at->q, at->q_stride, at->k, at->kv_stride, 0.0f, s, count);
    for (int64_t i = 0; i < rows; i++) sum[i] = cached_softmax_row(s + i * count, count - rows + i + 1, count);
    cpu_gemm('N', 'N', rows, at->dim, count, 1.0f, s, count, at->v, at->kv_stride, 0.0f, o, at->q_stride);
    for (int64_t i = 0; i < rows; i++) scale_row(o + i * at->q_stride, at->dim, 1.0f / sum[i]);
}

size_t cpu_attention_cached_scratch(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    return cpu_scratch_bytes(0, QUERIES * at->places);
}

/* Writes `rows` rows of a key and a value tensor from row `from` on to place `to` of slot s. */
static void fill_cache(const op_io_t *io, int key, int value, int64_t from, int64_t rows, int64_t s, int64_t to) {
    const attention_cached_attr_t *at = io->attr;
    const view_t *cache = &io->in[ATTENTION_CACHED_CACHE];
    int64_t stride = at->kv_heads * at->head_dim, half = cache->dim[1] * stride;
    float *keys = (float *)cache->data + (s * at->places + to) * stride;
    size_t bytes = (size_t)(rows * stride) * sizeof *keys;
    if (bytes == 0) return;
    memcpy(keys, (const float *)io->in[key].data + from * stride, bytes);
    memcpy(keys + half, (const float *)io->in[value].data + from * stride, bytes);
}

/* Rows of sequence s that the cache holds in front of its new ones, its prefix included. */
static int64_t rows_before(const op_io_t *io, int64_t s) {
    const int32_t *past = io->in[ATTENTION_CACHED_PAST].data, *cup = io->in[ATTENTION_CACHED_CU_PREFIX].data;
    return past[s] + (cup ? cup[s + 1] - cup[s] : 0);
}

void cpu_attention_cached_fwd(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    const float *q = io->in[ATTENTION_CACHED_Q].data;
    const int32_t *cu = io->in[ATTENTION_CACHED_CU].data, *past = io->in[ATTENTION_CACHED_PAST].data;
    const int32_t *cup = io->in[ATTENTION_CACHED_CU_PREFIX].data;
    const view_t *cache = &io->in[ATTENTION_CACHED_CACHE];
    int64_t sequences = io->in[ATTENTION_CACHED_PAST].dim[0], dim = at->head_dim, group = at->heads / at->kv_heads;
    int64_t q_stride = at->heads * dim, stride = at->kv_heads * dim;
    float *keys = cache->data, *values = keys + cache->dim[1] * stride, *o = io->out[0].data;
    for (int64_t s = 0; s < sequences; s++) {
        if (cup)
            fill_cache(io, ATTENTION_CACHED_PREFIX_K, ATTENTION_CACHED_PREFIX_V, cup[s], cup[s + 1] - cup[s], s,
                       past[s]);
        fill_cache(io, ATTENTION_CACHED_K, ATTENTION_CACHED_V, cu[s], cu[s + 1] - cu[s], s, rows_before(io, s));
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < sequences * at->heads; t++) {
        int64_t s = t / at->heads, h = t % at->heads, length = cu[s + 1] - cu[s], before = rows_before(io, s);
        int64_t slot = s * at->places * stride + h / group * dim;
        for (int64_t i = 0; i < length; i += QUERIES) {
            int64_t rows = cpu_min(QUERIES, length - i), place = (cu[s] + i) * q_stride + h * dim;
            const heads_t heads = {.q = q + place,
                                   .k = keys + slot,
                                   .v = values + slot,
                                   .q_stride = q_stride,
                                   .kv_stride = stride,
                                   .dim = dim,
                                   .scale = (float)at->scale};
            attend(&heads, rows, before + i + rows, cpu_thread_scratch(io, 0, QUERIES * at->places), o + place);
        }
    }
}
