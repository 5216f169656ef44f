/* Bound by memory: rows read and written once; in place, only the spliced ones. */
#include "kernels/cuda/rows.cuh"
extern "C" {
#include "kernels/ops/splice.h"
}

static row_map_t map_of(const op_io_t *io) {
    const splice_attr_t *at = (const splice_attr_t *)io->attr;
    const view_t *table = &io->in[SPLICE_T], *index = &io->in[SPLICE_INDEX];
    row_map_t m = {
        (const int32_t *)index->data, index->dim[0], at->first, at->count, at->width, table->dim[1], at->col};
    return m;
}

size_t cuda_splice_scratch(const op_io_t *io) {
    return rows_scratch(io->in[SPLICE_INDEX].dim[0]);
}

void cuda_splice_fwd(const op_io_t *io) {
    rows_take(cuda_stream(io), map_of(io), &io->in[SPLICE_T], &io->in[SPLICE_X], &io->out[0]);
}

/* dx may be dy. */
template <class T>
static __global__ void splice_gradient(piece_rows_t r, bool packed, row_map_t m, const T *dy, bool acc, T *dx) {
    int64_t n = piece_row(r);
    if (n < 0) return;
    bool spliced = row_map_at(m, n) >= 0;
    if (acc ? spliced : !spliced && dx == dy) return;
    for (int64_t at = piece_first(r) * EIGHT; at < m.d; at += r.width * EIGHT) {
        float v[EIGHT] = {0};
        if (!spliced) load_eight(dy + n * m.d + at, m.d - at, packed, v);
        store_eight(dx + n * m.d + at, m.d - at, packed, acc, v);
    }
}

/* The table first: dx may be dy itself. */
void cuda_splice_bwd(const op_io_t *io) {
    const row_map_t m = map_of(io);
    const view_t *dt = &io->gin[SPLICE_T], *dx = &io->gin[SPLICE_X], *dy = &io->gout;
    if (dt->data) rows_sum(cuda_stream(io), m, dy, io->scratch, io->acc[SPLICE_T], dt);
    if (!dx->data) return;
    piece_rows_t r = piece_rows(m.n, m.d);
    with_real(dy->dtype, [&](auto one) {
        using T = decltype(one);
        launch(cuda_stream(io), piece_rows_grid(r), PIECE_THREADS, 0, splice_gradient<T>, r,
               is_packed(dy->data, dx->data) && m.d % EIGHT == 0, m, (const T *)dy->data, io->acc[SPLICE_X],
               (T *)dx->data);
    });
}
