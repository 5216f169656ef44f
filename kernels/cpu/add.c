#include "kernels/ops/add.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

/* y = a + b; y may be a. */
GRAFT_CLONES static void sum_block(float *y, const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] + b[i];
}

void cpu_add_fwd(const op_io_t *io) {
    const float *a = io->in[ADD_A].data, *b = io->in[ADD_B].data;
    float *y = io->out[0].data;
    int64_t n = view_count(&io->out[0]);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++)
        sum_block(y + t * BLOCK, a + t * BLOCK, b + t * BLOCK, block_length(n, t));
}

void cpu_add_bwd(const op_io_t *io) {
    const float *dy = io->gout.data;
    int64_t n = view_count(&io->gout);
    for (int k = ADD_A; k <= ADD_B; k++) {
        float *dx = io->gin[k].data;
        if (!dx || dx == dy) continue;
#pragma omp parallel for schedule(static)
        for (int64_t t = 0; t < block_count(n); t++) {
            int64_t length = block_length(n, t);
            if (io->acc[k])
                sum_block(dx + t * BLOCK, dx + t * BLOCK, dy + t * BLOCK, length);
            else
                memcpy(dx + t * BLOCK, dy + t * BLOCK, (size_t)length * sizeof *dx);
        }
    }
}
