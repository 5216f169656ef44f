/* The products of rank r <= LOWRANK_MAX of lowrank on tensor cores, for bfloat16 activations: matrices [N, c] of
 * thousands of columns against [N, r] and [r, c]. Each reads or writes its long matrices once, in pieces of 16 bytes
 * where rows allow it, straight into the registers of the tensor cores: the sum's index may be taken in any order, and
 * so may the columns of a result, so each thread gets neighbouring numbers. Sums are float; t and the matrices of rank
 * r are rounded to bfloat16. *local* */
#pragma once
#include "kernels/cuda/cuda.cuh"

enum { LOWRANK_MAX = 64 };

/* Dropout as kernels see it; keys NULL: none. seed, step and training are read on the device. */
typedef struct lowrank_mask {
    const uint64_t *keys; /* [N] */
    const op_step_t *step;
    int32_t threshold; /* an element is kept when its 24 bits reach this */
    uint32_t site;
    float keep; /* 1/(1-p) */
} lowrank_mask_t;

/* A matrix as the kernels want it: bfloat16, rows and columns filled up with zeroes to multiples of 32. */
typedef struct lowrank_packed {
    bf16_t *data;
    int64_t cols; /* filled up */
} lowrank_packed_t;

/* Bytes of a packed [rows, cols], a multiple of 256. */
size_t lowrank_pack_bytes(int64_t rows, int64_t cols);
/* Packs w, float or bfloat16, into `to`: element (l, j) is w[l * row_stride + j * col_stride]. */
lowrank_packed_t lowrank_pack(cudaStream_t stream, const view_t *w, int64_t row_stride, int64_t col_stride,
                              int64_t rows, int64_t cols, void *to);

/* t [N,r] = scale drop(x) W^T with x [N,c], W [r,c] packed (rows of W along c). */
void lowrank_down(cudaStream_t stream, const bf16_t *x, int64_t n, int64_t c, const lowrank_packed_t *w, int64_t r,
                  float scale, const lowrank_mask_t *mask, float *t);
/* y [N,c] = from + drop^T(scale t V^T) with V [c,r] packed (rows of V along r); from NULL: 0; from may be y. */
void lowrank_up(cudaStream_t stream, const float *t, int64_t n, int64_t r, const lowrank_packed_t *v, int64_t c,
                float scale, const lowrank_mask_t *mask, const bf16_t *from, bf16_t *y);
/* g (+)= scale t^T drop(x) with x [N,c]: element (l, j) is g[l * row_stride + j * col_stride]. `partial` has room for
 * lowrank_outer_floats. */
int64_t lowrank_outer_floats(int64_t n, int64_t r, int64_t c);
void lowrank_outer(cudaStream_t stream, const float *t, const bf16_t *x, int64_t n, int64_t r, int64_t c, float scale,
                   const lowrank_mask_t *mask, float *partial, int64_t row_stride, int64_t col_stride, bool acc,
                   float *g);

/* to = drop(from) elementwise, or added to `to`; float or bfloat16. */
void lowrank_drop(cudaStream_t stream, dtype_t type, const void *from, int64_t n, int64_t c, const lowrank_mask_t *mask,
                  bool acc, void *to);
