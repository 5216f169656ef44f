#include "kernels/ops/embedding.h"
#include "kernels/cpu/rows.h"

static cpu_rows_t rows_of(const op_io_t *io) {
    const view_t *e = &io->in[EMBEDDING_E], *ids = &io->in[EMBEDDING_IDS];
    return (cpu_rows_t){.index = ids->data, .n = ids->dim[0], .count = e->dim[0], .d = e->dim[1], .width = e->dim[1]};
}

void cpu_embedding_fwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    cpu_rows_take(&rows, io->in[EMBEDDING_E].data, io->out[0].data);
}

void cpu_embedding_bwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    float *de = io->gin[EMBEDDING_E].data;
    if (de) cpu_rows_put(&rows, io->gout.data, io->acc[EMBEDDING_E], rows.count, de);
}
