/* Bound by memory: rows read and written once. The numbers of a padded micro-batch end with zeros, so the gradient sums
 * repeated ones like an embedding's. */
#include "kernels/cuda/rows.cuh"
extern "C" {
#include "kernels/ops/gather_rows.h"
}

static row_map_t map_of(const op_io_t *io) {
    const view_t *x = &io->in[GATHER_ROWS_X], *rows = &io->in[GATHER_ROWS_ROWS];
    row_map_t m = {(const int32_t *)rows->data, rows->dim[0], 0, x->dim[0], x->dim[1], x->dim[1], 0};
    return m;
}

size_t cuda_gather_rows_scratch(const op_io_t *io) {
    return rows_scratch(io->in[GATHER_ROWS_ROWS].dim[0]);
}

void cuda_gather_rows_fwd(const op_io_t *io) {
    view_t nothing = {};
    rows_take(cuda_stream(io), map_of(io), &io->in[GATHER_ROWS_X], &nothing, &io->out[0]);
}

void cuda_gather_rows_bwd(const op_io_t *io) {
    const view_t *dx = &io->gin[GATHER_ROWS_X];
    if (dx->data) rows_sum(cuda_stream(io), map_of(io), &io->gout, io->scratch, io->acc[GATHER_ROWS_X], dx);
}
