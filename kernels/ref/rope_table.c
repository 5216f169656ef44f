#include "kernels/ops/rope_table.h"
#include "kernels/ref/ref.h"

void REF(ref_rope_table_fwd)(const op_io_t *io) {
    const rope_table_attr_t *at = io->attr;
    const int32_t *positions = io->in[ROPE_TABLE_POSITIONS].data;
    real_t *table = io->out[0].data;
    int64_t rows = io->out[0].dim[0], half = at->half;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < half; i++) {
            real_t angle = (real_t)positions[n] * (real_t)at->inv_freq[i];
            table[n * 2 * half + i] = (real_t)cos(angle);
            table[n * 2 * half + half + i] = (real_t)sin(angle);
        }
}
