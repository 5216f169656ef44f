#include "kernels/ops/concat.h"
#include "kernels/cpu/cpu.h"

void cpu_concat_fwd(const op_io_t *io) {
    const float *a = io->in[CONCAT_A].data, *b = io->in[CONCAT_B].data;
    float *y = io->out[0].data;
    int64_t rows = io->out[0].dim[0], p = io->in[CONCAT_A].dim[1], q = io->in[CONCAT_B].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float *row = y + n * (p + q);
        memcpy(row, a + n * p, (size_t)p * sizeof *row);
        memcpy(row + p, b + n * q, (size_t)q * sizeof *row);
    }
}

void cpu_concat_bwd(const op_io_t *io) {
    int64_t rows = io->gout.dim[0], width = io->gout.dim[1], first = 0;
    for (int k = CONCAT_A; k <= CONCAT_B; k++) {
        float *dx = io->gin[k].data;
        const float *dy = (const float *)io->gout.data + first;
        int64_t count = io->in[k].dim[1];
        bool acc = io->acc[k];
        first += count;
        if (!dx) continue;
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < rows; n++) {
            float *to = dx + n * count;
            const float *from = dy + n * width;
            if (!acc) memcpy(to, from, (size_t)count * sizeof *to);
            for (int64_t i = 0; acc && i < count; i++) to[i] += from[i];
        }
    }
}
