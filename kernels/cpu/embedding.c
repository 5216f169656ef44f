#include "kernels/ops/embedding.h"
#include "kernels/cpu/cpu.h"

enum { COLUMNS = 64 };

void cpu_embedding_fwd(const op_io_t *io) {
    const float *e = io->in[EMBEDDING_E].data;
    const int32_t *ids = io->in[EMBEDDING_IDS].data;
    float *y = io->out[0].data;
    int64_t rows = io->out[0].dim[0], d = io->out[0].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) memcpy(y + n * d, e + ids[n] * d, (size_t)d * sizeof *y);
}

/* Tiles of columns: a token that occurs twice is summed in the order of its places by one thread. */
void cpu_embedding_bwd(const op_io_t *io) {
    const int32_t *ids = io->in[EMBEDDING_IDS].data;
    const float *dy = io->gout.data;
    float *de = io->gin[EMBEDDING_E].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1], vocab = io->in[EMBEDDING_E].dim[0];
    if (!de) return;
    if (!io->acc[EMBEDDING_E]) {
#pragma omp parallel for schedule(static)
        for (int64_t v = 0; v < vocab; v++) memset(de + v * d, 0, (size_t)d * sizeof *de);
    }
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(d, COLUMNS); t++)
        for (int64_t n = 0; n < rows; n++)
            for (int64_t i = t * COLUMNS; i < cpu_min(d, (t + 1) * COLUMNS); i++) de[ids[n] * d + i] += dy[n * d + i];
}
