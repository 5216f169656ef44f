/* Rows of a sum and its norm: what both norms do beside their own work. Every number of a row is touched while the row
 * is in the nearest cache. *local* */
#pragma once
#include "kernels/cpu/cpu.h"
#include "kernels/ops/add_norm.h"

/* s = a + b; s may be a. */
static inline void add_norm_sum(float *s, const float *a, const float *b, int64_t d) {
    for (int64_t i = 0; i < d; i++) s[i] = a[i] + b[i];
}

/* The place where the gradient of row n of s is put together: a's or b's own where that is overwritten, else the
 * thread's. It has the gradient that arrives at s itself, if one does (gout). */
static inline float *add_norm_begin(const op_io_t *io, int64_t n) {
    int64_t d = io->gout.dim[1];
    const float *ds = io->gout.data;
    float *at = NULL;
    for (int k = ADD_NORM_A; k <= ADD_NORM_B && !at; k++)
        if (io->gin[k].data && !io->acc[k]) at = (float *)io->gin[k].data + n * d;
    if (!at) at = cpu_thread_scratch(io, 0, d);
    if (ds && at != ds + n * d) memcpy(at, ds + n * d, (size_t)d * sizeof *at);
    return at;
}

/* Gives it to both. */
static inline void add_norm_end(const op_io_t *io, int64_t n, const float *sum) {
    int64_t d = io->gout.dim[1];
    for (int k = ADD_NORM_A; k <= ADD_NORM_B; k++) {
        if (!io->gin[k].data) continue;
        float *g = (float *)io->gin[k].data + n * d;
        if (io->acc[k])
            for (int64_t i = 0; i < d; i++) g[i] += sum[i];
        else if (g != sum)
            memcpy(g, sum, (size_t)d * sizeof *g);
    }
}

/* A row for every thread. */
static inline size_t add_norm_scratch(const op_io_t *io) {
    return cpu_scratch_bytes(0, io->in[ADD_NORM_A].dim[1]);
}
