/* Bound by memory: rows read and written once; in the gradient dy once and the table's gradient once (twice where it is
 * added to, and then only the rows that occur). */
#include "kernels/cuda/rows.cuh"
extern "C" {
#include "kernels/ops/embedding.h"
}

static row_map_t map_of(const op_io_t *io) {
    const view_t *e = &io->in[EMBEDDING_E], *ids = &io->in[EMBEDDING_IDS];
    row_map_t m = {(const int32_t *)ids->data, ids->dim[0], 0, e->dim[0], e->dim[1], e->dim[1], 0};
    return m;
}

size_t cuda_embedding_scratch(const op_io_t *io) {
    return rows_scratch(io->in[EMBEDDING_IDS].dim[0]);
}

void cuda_embedding_fwd(const op_io_t *io) {
    view_t nothing = {};
    rows_take(cuda_stream(io), map_of(io), &io->in[EMBEDDING_E], &nothing, &io->out[0]);
}

void cuda_embedding_bwd(const op_io_t *io) {
    const view_t *de = &io->gin[EMBEDDING_E];
    if (de->data) rows_sum(cuda_stream(io), map_of(io), &io->gout, io->scratch, io->acc[EMBEDDING_E], de);
}
