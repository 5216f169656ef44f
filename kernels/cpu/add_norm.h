/* Rows of a sum and its norm: what both norms do beside their own work. All that is done to a row is done while it is
 * in the nearest cache. *local* */
#pragma once
#include "kernels/cpu/cpu.h"
#include "kernels/ops/add_norm.h"

/* s = a + b in row n; the row of s. */
float *add_norm_sum(const op_io_t *io, int64_t n);

/* The place where the gradient of row n of s is put together: a's or b's own where that is overwritten, else the
 * thread's. It has the gradient that arrives at s itself, if one does (gout). */
float *add_norm_begin(const op_io_t *io, int64_t n);

/* Gives it to both. */
void add_norm_end(const op_io_t *io, int64_t n, const float *sum);

/* A row for every thread. */
static inline size_t add_norm_scratch(const op_io_t *io) {
    return cpu_scratch_bytes(0, io->in[ADD_NORM_A].dim[1]);
}
