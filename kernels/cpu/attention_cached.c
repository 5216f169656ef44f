#include "kernels/ops/attention_cached.h"
#include "kernels/cpu/cpu.h"

size_t cpu_attention_cached_scratch(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    return cpu_scratch_bytes(0, CPU_QUERY_ROWS * at->places);
}

void cpu_attention_cached_fwd(const op_io_t *io) {
    const attention_cached_attr_t *at = io->attr;
    const float *q = io->in[ATTENTION_CACHED_Q].data, *k = io->in[ATTENTION_CACHED_K].data;
    const float *v = io->in[ATTENTION_CACHED_V].data;
    const int32_t *cu = io->in[ATTENTION_CACHED_CU].data, *past = io->in[ATTENTION_CACHED_PAST].data;
    const view_t *cache = &io->in[ATTENTION_CACHED_CACHE];
    int64_t sequences = io->in[ATTENTION_CACHED_PAST].dim[0], dim = at->head_dim, group = at->heads / at->kv_heads;
    int64_t q_stride = at->heads * dim, stride = at->kv_heads * dim;
    float *keys = cache->data, *values = keys + cache->dim[1] * stride, *o = io->out[0].data;
    for (int64_t s = 0; s < sequences; s++) {
        int64_t to = (s * at->places + past[s]) * stride, from = cu[s] * stride;
        size_t bytes = (size_t)((cu[s + 1] - cu[s]) * stride) * sizeof *keys;
        if (bytes == 0) continue;
        memcpy(keys + to, k + from, bytes);
        memcpy(values + to, v + from, bytes);
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < sequences * at->heads; t++) {
        int64_t s = t / at->heads, h = t % at->heads, length = cu[s + 1] - cu[s];
        int64_t slot = s * at->places * stride + h / group * dim;
        for (int64_t i = 0; i < length; i += CPU_QUERY_ROWS) {
            int64_t rows = cpu_min(CPU_QUERY_ROWS, length - i), place = (cu[s] + i) * q_stride + h * dim;
            const cpu_heads_t heads = {.q = q + place,
                                       .k = keys + slot,
                                       .v = values + slot,
                                       .q_stride = q_stride,
                                       .kv_stride = stride,
                                       .dim = dim,
                                       .scale = (float)at->scale};
            cpu_attend(&heads, rows, past[s] + i + rows, cpu_thread_scratch(io, 0, CPU_QUERY_ROWS * at->places),
                       o + place, NULL, 0);
        }
    }
}
