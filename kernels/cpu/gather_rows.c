#include "kernels/ops/gather_rows.h"
#include "kernels/cpu/rows.h"

static cpu_rows_t rows_of(const op_io_t *io) {
    const view_t *x = &io->in[GATHER_ROWS_X], *rows = &io->in[GATHER_ROWS_ROWS];
    return (cpu_rows_t){.index = rows->data, .n = rows->dim[0], .count = x->dim[0], .d = x->dim[1], .width = x->dim[1]};
}

void cpu_gather_rows_fwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    cpu_rows_take(&rows, io->in[GATHER_ROWS_X].data, io->out[0].data);
}

void cpu_gather_rows_bwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    float *dx = io->gin[GATHER_ROWS_X].data;
    if (dx) cpu_rows_put(&rows, io->gout.data, io->acc[GATHER_ROWS_X], rows.count, dx);
}
