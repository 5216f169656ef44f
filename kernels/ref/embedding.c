#include "kernels/ops/embedding.h"
#include "kernels/ref/ref.h"

void REF(ref_embedding_fwd)(const op_io_t *io) {
    const real_t *e = io->in[EMBEDDING_E].data;
    const int32_t *ids = io->in[EMBEDDING_IDS].data;
    real_t *y = io->out[0].data;
    int64_t rows = io->out[0].dim[0], d = io->out[0].dim[1];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < d; i++) y[n * d + i] = e[ids[n] * d + i];
}

void REF(ref_embedding_bwd)(const op_io_t *io) {
    const int32_t *ids = io->in[EMBEDDING_IDS].data;
    const real_t *dy = io->gout.data;
    real_t *de = io->gin[EMBEDDING_E].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    if (!de) return;
    if (!io->acc[EMBEDDING_E]) memset(de, 0, view_bytes(&io->gin[EMBEDDING_E]));
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < d; i++) de[ids[n] * d + i] += dy[n * d + i];
}
