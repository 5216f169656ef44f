/* A rectangle of columns copied between tensors of other row lengths: what cols and concat share. */
#pragma once
#include "kernels/cuda/pieces.cuh"

/* Columns [first, ...) of rows of `width` numbers. */
template <class T> struct columns_t {
    T *data;
    int64_t width, first;
};

template <class T>
static __global__ void columns_kernel(piece_rows_t r, bool packed, columns_t<const T> x, bool acc, columns_t<T> y) {
    int64_t row = piece_row(r);
    if (row < 0) return;
    const T *from = x.data + row * x.width + x.first;
    T *to = y.data + row * y.width + y.first;
    for (int64_t at = piece_first(r) * EIGHT; at < r.length; at += r.width * EIGHT) {
        float v[EIGHT];
        load_eight(from + at, r.length - at, packed, v);
        store_eight(to + at, r.length - at, packed, acc, v);
    }
}

/* y[n, i] = x[n, i] or, with acc, += for n < rows, i < count. */
template <class T>
static inline void columns_copy(cudaStream_t stream, int64_t rows, int64_t count, columns_t<const T> x, bool acc,
                                columns_t<T> y) {
    piece_rows_t r = piece_rows(rows, count);
    bool packed = is_packed(x.data, y.data) && (x.width | x.first | y.width | y.first) % EIGHT == 0;
    launch(stream, piece_rows_grid(r), PIECE_THREADS, 0, columns_kernel<T>, r, packed, x, acc, y);
}
