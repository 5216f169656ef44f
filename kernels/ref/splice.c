#include "kernels/ops/splice.h"
#include "kernels/ref/ref.h"

/* The row of the table that is spliced in at n, -1: none. */
static int64_t table_row(const op_io_t *io, int64_t n) {
    const splice_attr_t *at = io->attr;
    int64_t r = (int64_t)((const int32_t *)io->in[SPLICE_INDEX].data)[n] - at->first;
    return r >= 0 && r < at->count ? r : -1;
}

void REF(ref_splice_fwd)(const op_io_t *io) {
    const splice_attr_t *at = io->attr;
    const real_t *x = io->in[SPLICE_X].data, *table = io->in[SPLICE_T].data;
    real_t *y = io->out[0].data;
    int64_t rows = io->out[0].dim[0], d = at->width, width = io->in[SPLICE_T].dim[1];
    for (int64_t n = 0; n < rows; n++) {
        int64_t r = table_row(io, n);
        for (int64_t i = 0; i < d; i++) y[n * d + i] = r >= 0 ? table[r * width + at->col + i] : x ? x[n * d + i] : 0;
    }
}

/* The table first: dx may be dy itself. */
void REF(ref_splice_bwd)(const op_io_t *io) {
    const splice_attr_t *at = io->attr;
    const real_t *dy = io->gout.data;
    real_t *dx = io->gin[SPLICE_X].data, *dt = io->gin[SPLICE_T].data;
    int64_t rows = io->gout.dim[0], d = at->width, width = io->in[SPLICE_T].dim[1];
    for (int64_t i = 0, n = view_count(&io->gin[SPLICE_T]); dt && !io->acc[SPLICE_T] && i < n; i++) dt[i] = 0;
    for (int64_t n = 0; dt && n < rows; n++) {
        int64_t r = table_row(io, n);
        for (int64_t i = 0; r >= 0 && i < d; i++) dt[r * width + at->col + i] += dy[n * d + i];
    }
    for (int64_t n = 0; dx && n < rows; n++)
        for (int64_t i = n * d; i < (n + 1) * d; i++)
            ref_put(&dx[i], io->acc[SPLICE_X], table_row(io, n) < 0 ? dy[i] : 0);
}
