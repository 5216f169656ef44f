#include "kernels/ops/rope.h"
#include "kernels/cpu/cpu.h"

/* One row: every head of x rotated by sign * angle into y, which may be x. */
GRAFT_CLONES static void rotate_row(float *y, bool acc, const float *x, const float *restrict table, int64_t heads,
                                    int64_t half, float sign) {
    for (int64_t h = 0; h < heads; h++) {
        const float *x1 = x + h * 2 * half, *x2 = x1 + half, *c = table, *s = table + half;
        float *y1 = y + h * 2 * half, *y2 = y1 + half;
        for (int64_t i = 0; i < half; i++) {
            float a = x1[i] * c[i] - x2[i] * (sign * s[i]), b = x2[i] * c[i] + x1[i] * (sign * s[i]);
            y1[i] = acc ? y1[i] + a : a;
            y2[i] = acc ? y2[i] + b : b;
        }
    }
}

static void rotate(const view_t *shape, const view_t *table, const float *x, float *y, bool acc, float sign) {
    int64_t rows = shape->dim[0], width = shape->dim[1], dim = table->dim[1];
    const float *angles = table->data;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++)
        rotate_row(y + n * width, acc, x + n * width, angles + n * dim, width / dim, dim / 2, sign);
}

void cpu_rope_fwd(const op_io_t *io) {
    rotate(&io->in[ROPE_X], &io->in[ROPE_TABLE_IN], io->in[ROPE_X].data, io->out[0].data, false, 1.0f);
}

void cpu_rope_bwd(const op_io_t *io) {
    float *dx = io->gin[ROPE_X].data;
    if (dx) rotate(&io->gout, &io->in[ROPE_TABLE_IN], io->gout.data, dx, io->acc[ROPE_X], -1.0f);
}
