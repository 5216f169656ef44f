/* Bound by memory: what is read is written once; an overwritten gradient is written whole. */
#include "kernels/cuda/columns.cuh"
extern "C" {
#include "kernels/ops/cols.h"
}

void cuda_cols_fwd(const op_io_t *io) {
    const cols_attr_t *at = (const cols_attr_t *)io->attr;
    const view_t *x = &io->in[COLS_X];
    with_real(x->dtype, [&](auto one) {
        using T = decltype(one);
        columns_copy<T>(cuda_stream(io), x->dim[0], at->count, {(const T *)x->data, x->dim[1], at->first}, false,
                        {(T *)io->out[0].data, at->count, 0});
    });
}

/* Whole rows of dx: those columns from dy, 0 in the others. With `packed`, no piece is partly inside. */
template <class T>
static __global__ void cols_gradient(piece_rows_t r, bool packed, int64_t first, int64_t count, const T *dy, T *dx) {
    int64_t row = piece_row(r);
    if (row < 0) return;
    for (int64_t at = piece_first(r) * EIGHT; at < r.length; at += r.width * EIGHT) {
        int64_t from = row * count + at - first;
        float v[EIGHT] = {0};
        if (packed && at >= first && at < first + count)
            load_eight(dy + from, EIGHT, true, v);
        else if (!packed)
#pragma unroll
            for (int i = 0; i < EIGHT; i++)
                if (at + i >= first && at + i < first + count) v[i] = to_float(dy[from + i]);
        store_eight(dx + row * r.length + at, r.length - at, packed, false, v);
    }
}

void cuda_cols_bwd(const op_io_t *io) {
    const cols_attr_t *at = (const cols_attr_t *)io->attr;
    int64_t rows = io->gout.dim[0], width = io->in[COLS_X].dim[1];
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        const T *dy = (const T *)io->gout.data;
        T *dx = (T *)io->gin[COLS_X].data;
        if (!dx) return;
        if (io->acc[COLS_X]) {
            columns_copy<T>(cuda_stream(io), rows, at->count, {dy, at->count, 0}, true, {dx, width, at->first});
            return;
        }
        piece_rows_t r = piece_rows(rows, width);
        bool packed = is_packed(dy, dx) && (width | at->first | at->count) % EIGHT == 0;
        launch(cuda_stream(io), piece_rows_grid(r), PIECE_THREADS, 0, cols_gradient<T>, r, packed, at->first, at->count,
               dy, dx);
    });
}
