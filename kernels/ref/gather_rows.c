#include "kernels/ops/gather_rows.h"
#include "kernels/ref/ref.h"

void REF(ref_gather_rows_fwd)(const op_io_t *io) {
    const real_t *x = io->in[GATHER_ROWS_X].data;
    const int32_t *rows = io->in[GATHER_ROWS_ROWS].data;
    real_t *y = io->out[0].data;
    int64_t count = io->out[0].dim[0], d = io->out[0].dim[1];
    for (int64_t m = 0; m < count; m++)
        for (int64_t i = 0; i < d; i++) y[m * d + i] = x[rows[m] * d + i];
}

void REF(ref_gather_rows_bwd)(const op_io_t *io) {
    const int32_t *rows = io->in[GATHER_ROWS_ROWS].data;
    const real_t *dy = io->gout.data;
    real_t *dx = io->gin[GATHER_ROWS_X].data;
    int64_t count = io->gout.dim[0], d = io->gout.dim[1];
    if (!dx) return;
    if (!io->acc[GATHER_ROWS_X])
        for (int64_t i = 0, n = view_count(&io->gin[GATHER_ROWS_X]); i < n; i++) dx[i] = 0;
    for (int64_t m = 0; m < count; m++)
        for (int64_t i = 0; i < d; i++) dx[rows[m] * d + i] += dy[m * d + i];
}
