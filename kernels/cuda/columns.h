/* Sums of the columns of a matrix, for gradients of biases: rows are cut in pieces of a fixed size, whose sums are
 * added in order. Bytes: one read of the matrix. *local* */
#pragma once
#include "kernels/cuda/cuda.cuh"

/* Bytes of scratch for x [rows, cols]. */
size_t columns_scratch(int64_t rows, int64_t cols);
/* to[j] (+)= sum over n of x[n,j]; x is float or bfloat16. */
void columns_sum(cudaStream_t stream, dtype_t type, const void *x, int64_t rows, int64_t cols, void *scratch, bool acc,
                 float *to);
