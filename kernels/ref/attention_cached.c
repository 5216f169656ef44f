#include "kernels/ops/attention_cached.h"
#include "kernels/ref/ref.h"

size_t REF(ref_attention_cached_scratch)(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    return sizeof(double) * (size_t)at->places;
}

/* One query row of one head over `count` cached places. */
static void attend(const real_t *q, const real_t *k, const real_t *v, int64_t count, int64_t stride, int64_t dim,
                   double scale, double *p, real_t *o) {
    double max = -INFINITY, sum = 0;
    for (int64_t j = 0; j < count; j++) {
        double dot = 0;
        for (int64_t c = 0; c < dim; c++) dot += (double)q[c] * k[j * stride + c];
        p[j] = scale * dot;
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < count; j++) {
        p[j] = exp(p[j] - max);
        sum += p[j];
    }
    for (int64_t c = 0; c < dim; c++) {
        double mean = 0;
        for (int64_t j = 0; j < count; j++) mean += p[j] * v[j * stride + c];
        o[c] = (real_t)(mean / sum);
    }
}

static void copy(real_t *to, const real_t *from, int64_t count) {
    for (int64_t i = 0; i < count; i++) to[i] = from[i];
}

void REF(ref_attention_cached_fwd)(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    const real_t *q = io->in[ATTENTION_CACHED_Q].data, *k = io->in[ATTENTION_CACHED_K].data;
    const real_t *v = io->in[ATTENTION_CACHED_V].data;
    const int32_t *cu = io->in[ATTENTION_CACHED_CU].data, *past = io->in[ATTENTION_CACHED_PAST].data;
    const view_t *cache = &io->in[ATTENTION_CACHED_CACHE];
    const int32_t *cup = io->in[ATTENTION_CACHED_CU_PREFIX].data;
    real_t *o = io->out[0].data;
    int64_t dim = at->head_dim, q_stride = at->heads * dim, stride = at->kv_heads * dim;
    for (int64_t s = 0; s + 1 < io->in[ATTENTION_CACHED_CU].dim[0]; s++) {
        real_t *keys = (real_t *)cache->data + s * at->places * stride;
        real_t *values = keys + cache->dim[1] * stride;
        int64_t first = cu[s], count = cu[s + 1] - cu[s], before = past[s];
        if (cup) {
            int64_t rows = cup[s + 1] - cup[s], to = before * stride, from = cup[s] * stride;
            copy(keys + to, (const real_t *)io->in[ATTENTION_CACHED_PREFIX_K].data + from, rows * stride);
            copy(values + to, (const real_t *)io->in[ATTENTION_CACHED_PREFIX_V].data + from, rows * stride);
            before += rows;
        }
        copy(keys + before * stride, k + first * stride, count * stride);
        copy(values + before * stride, v + first * stride, count * stride);
        for (int64_t i = 0; i < count; i++)
            for (int64_t h = 0; h < at->heads; h++) {
                int64_t kv = h / (at->heads / at->kv_heads), place = (first + i) * q_stride + h * dim;
                attend(q + place, keys + kv * dim, values + kv * dim, before + i + 1, stride, dim, at->scale,
                       io->scratch, o + place);
            }
    }
}
