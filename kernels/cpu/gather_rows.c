#include "kernels/ops/gather_rows.h"
#include "kernels/cpu/cpu.h"

void cpu_gather_rows_fwd(const op_io_t *io) {
    const float *x = io->in[GATHER_ROWS_X].data;
    const int32_t *rows = io->in[GATHER_ROWS_ROWS].data;
    float *y = io->out[0].data;
    int64_t count = io->out[0].dim[0], d = io->out[0].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t m = 0; m < count; m++) memcpy(y + m * d, x + rows[m] * d, (size_t)d * sizeof *y);
}

void cpu_gather_rows_bwd(const op_io_t *io) {
    const int32_t *rows = io->in[GATHER_ROWS_ROWS].data;
    const float *dy = io->gout.data;
    float *dx = io->gin[GATHER_ROWS_X].data;
    int64_t count = io->gout.dim[0], d = io->gout.dim[1], all = io->in[GATHER_ROWS_X].dim[0];
    if (!dx) return;
    if (!io->acc[GATHER_ROWS_X]) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < all; n++) memset(dx + n * d, 0, (size_t)d * sizeof *dx);
    }
#pragma omp parallel for schedule(static)
    for (int64_t m = 0; m < count; m++) /* rows are distinct, so no two threads meet */
        for (int64_t i = 0; i < d; i++) dx[rows[m] * d + i] += dy[m * d + i];
}
