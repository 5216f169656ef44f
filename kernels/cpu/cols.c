#include "kernels/ops/cols.h"
#include "kernels/cpu/cpu.h"

void cpu_cols_fwd(const op_io_t *io) {
    const cols_attr_t *at = io->attr;
    const float *x = io->in[COLS_X].data;
    float *y = io->out[0].data;
    int64_t rows = io->in[COLS_X].dim[0], k = io->in[COLS_X].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) memcpy(y + n * at->count, x + n * k + at->first, (size_t)at->count * sizeof *y);
}

void cpu_cols_bwd(const op_io_t *io) {
    const cols_attr_t *at = io->attr;
    const float *dy = io->gout.data;
    float *dx = io->gin[COLS_X].data;
    int64_t rows = io->in[COLS_X].dim[0], k = io->in[COLS_X].dim[1];
    if (!dx) return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float *row = dx + n * k, *part = row + at->first;
        const float *from = dy + n * at->count;
        if (io->acc[COLS_X]) {
            for (int64_t i = 0; i < at->count; i++) part[i] += from[i];
            continue;
        }
        memset(row, 0, (size_t)k * sizeof *row);
        memcpy(part, from, (size_t)at->count * sizeof *row);
    }
}
