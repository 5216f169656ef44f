#include "kernels/ops/cols.h"
#include "kernels/ref/ref.h"

void REF(ref_cols_fwd)(const op_io_t *io) {
    const cols_attr_t *at = io->attr;
    const real_t *x = io->in[COLS_X].data;
    real_t *y = io->out[0].data;
    int64_t rows = io->in[COLS_X].dim[0], k = io->in[COLS_X].dim[1];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < at->count; i++) y[n * at->count + i] = x[n * k + at->first + i];
}

void REF(ref_cols_bwd)(const op_io_t *io) {
    const cols_attr_t *at = io->attr;
    const real_t *dy = io->gout.data;
    real_t *dx = io->gin[COLS_X].data;
    int64_t rows = io->in[COLS_X].dim[0], k = io->in[COLS_X].dim[1];
    for (int64_t n = 0; dx && n < rows; n++)
        for (int64_t i = 0; i < k; i++) {
            bool inside = i >= at->first && i < at->first + at->count;
            ref_put(&dx[n * k + i], io->acc[COLS_X], inside ? dy[n * at->count + i - at->first] : 0);
        }
}
