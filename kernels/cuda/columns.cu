#include "kernels/cuda/columns.h"

namespace {

enum { PIECE = 256, THREADS = 128 };

template <class T> __global__ void sum_piece(const T *x, int64_t rows, int64_t cols, float *partial) {
    const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x, first = (int64_t)blockIdx.y * PIECE;
    if (j >= cols) return;
    const int64_t last = first + PIECE < rows ? first + PIECE : rows;
    float sum = 0;
#pragma unroll 8
    for (int64_t n = first; n < last; n++) sum += to_float(x[n * cols + j]);
    partial[(int64_t)blockIdx.y * cols + j] = sum;
}

__global__ void add_pieces(const float *partial, int64_t pieces, int64_t cols, float *to, bool acc) {
    const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (j >= cols) return;
    float sum = 0;
    for (int64_t p = 0; p < pieces; p++) sum += partial[p * cols + j];
    put(to + j, sum, acc);
}

} // namespace

size_t columns_scratch(int64_t rows, int64_t cols) {
    return sizeof(float) * (size_t)(cuda_parts(rows, PIECE) * cols);
}

void columns_sum(cudaStream_t stream, dtype_t type, const void *x, int64_t rows, int64_t cols, void *scratch, bool acc,
                 float *to) {
    const int64_t pieces = cuda_parts(rows, PIECE);
    const unsigned across = (unsigned)cuda_parts(cols, THREADS);
    float *partial = (float *)scratch;
    with_real(type, [&](auto one) {
        using T = decltype(one);
        launch(stream, dim3(across, (unsigned)pieces), dim3(THREADS), 0, sum_piece<T>, (const T *)x, rows, cols,
               partial);
    });
    launch(stream, dim3(across), dim3(THREADS), 0, add_pieces, partial, pieces, cols, to, acc);
}
