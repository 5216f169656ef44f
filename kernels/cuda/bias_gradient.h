/* The gradient of a bias: sums of the columns of dy in a fixed order (column_sums.cuh). Bytes: one read of dy. *local*
 */
#pragma once
#include "kernels/cuda/cuda.cuh"

/* Bytes of scratch for dy [rows, cols]. */
size_t bias_gradient_scratch(int64_t rows, int64_t cols);
/* db[j] (+)= sum over n of dy[n,j]; dy is float or bfloat16. */
void bias_gradient(cudaStream_t stream, dtype_t type, const void *dy, int64_t rows, int64_t cols, void *scratch,
                   bool acc, float *db);
