#include "kernels/ops/rope_table.h"
#include "kernels/cpu/cpu.h"
#include <math.h>

/* Once per batch, so plain cosines; in double, because float arguments of some thousands need an exact reduction. */
void cpu_rope_table_fwd(const op_io_t *io) {
    const rope_table_attr_t *at = io->attr;
    const int32_t *positions = io->in[ROPE_TABLE_POSITIONS].data;
    float *table = io->out[0].data;
    int64_t rows = io->out[0].dim[0], half = at->half;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < half; i++) {
            float angle = (float)positions[n] * (float)at->inv_freq[i];
            table[n * 2 * half + i] = (float)cos((double)angle);
            table[n * 2 * half + half + i] = (float)sin((double)angle);
        }
}
