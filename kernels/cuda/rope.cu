/* Bound by memory: two tensors (three where a gradient is added to) and the table, which the heads of a row share. A
 * thread rotates eight pairs. */
#include "kernels/cuda/pieces.cuh"
extern "C" {
#include "kernels/ops/rope.h"
}

/* Rows of `r` are the pairs of all heads, each head padded to whole pieces; x and y may be one buffer. */
template <class T>
static __global__ void rope_kernel(piece_rows_t r, bool packed, int pairs, int pieces, const float *table, float sign,
                                   const T *x, bool acc, T *y) {
    int64_t row = piece_row(r);
    if (row < 0) return;
    int64_t width = r.length / (pieces * EIGHT) * 2 * pairs;
    for (int k = piece_first(r); k * EIGHT < r.length; k += r.width) {
        int first = k % pieces * EIGHT;
        int64_t at = row * width + (int64_t)(k / pieces) * 2 * pairs + first;
        const float *angle = table + row * 2 * pairs + first;
        float a[EIGHT], b[EIGHT], c[EIGHT], s[EIGHT];
        load_eight(x + at, pairs - first, packed, a);
        load_eight(x + at + pairs, pairs - first, packed, b);
        load_eight(angle, pairs - first, packed, c);
        load_eight(angle + pairs, pairs - first, packed, s);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            float a0 = a[i], b0 = b[i], sine = sign * s[i];
            a[i] = a0 * c[i] - b0 * sine;
            b[i] = b0 * c[i] + a0 * sine;
        }
        store_eight(y + at, pairs - first, packed, acc, a);
        store_eight(y + at + pairs, pairs - first, packed, acc, b);
    }
}

static void rotate(const op_io_t *io, const view_t *from, float sign, bool acc, void *to) {
    int64_t rows = from->dim[0], dim = io->in[ROPE_TABLE_IN].dim[1], pairs = dim / 2, pieces = cuda_parts(pairs, EIGHT);
    piece_rows_t r = piece_rows(rows, from->dim[1] / dim * pieces * EIGHT);
    with_real(from->dtype, [&](auto one) {
        using T = decltype(one);
        const float *table = (const float *)io->in[ROPE_TABLE_IN].data;
        const T *x = (const T *)from->data;
        T *y = (T *)to;
        launch(cuda_stream(io), piece_rows_grid(r), PIECE_THREADS, 0, rope_kernel<T>, r,
               is_packed(table, x, y) && pairs % EIGHT == 0, pairs, pieces, table, sign, x, acc, y);
    });
}

void cuda_rope_fwd(const op_io_t *io) {
    rotate(io, &io->in[ROPE_X], 1.0f, false, io->out[0].data);
}

void cuda_rope_bwd(const op_io_t *io) {
    if (io->gin[ROPE_X].data) rotate(io, &io->gout, -1.0f, io->acc[ROPE_X], io->gin[ROPE_X].data);
}
