#include "kernels/ops/rope.h"
#include "kernels/ref/ref.h"

/* Rotates every head by +angle (sign 1) or -angle (sign -1); x and y may be one buffer. */
static void rotate(const view_t *shape, const view_t *table_view, const real_t *x, real_t *y, bool acc, double sign) {
    const real_t *table = table_view->data;
    int64_t rows = shape->dim[0], width = shape->dim[1], dim = table_view->dim[1], half = dim / 2;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t head = 0; head < width / dim; head++)
            for (int64_t i = 0; i < half; i++) {
                double c = table[n * dim + i], s = sign * table[n * dim + half + i];
                int64_t p = n * width + head * dim + i, q = p + half;
                double x1 = x[p], x2 = x[q];
                ref_put(&y[p], acc, x1 * c - x2 * s);
                ref_put(&y[q], acc, x2 * c + x1 * s);
            }
}

void REF(ref_rope_fwd)(const op_io_t *io) {
    rotate(&io->in[ROPE_X], &io->in[ROPE_TABLE_IN], io->in[ROPE_X].data, io->out[0].data, false, 1);
}

void REF(ref_rope_bwd)(const op_io_t *io) {
    real_t *dx = io->gin[ROPE_X].data;
    if (dx) rotate(&io->gout, &io->in[ROPE_TABLE_IN], io->gout.data, dx, io->acc[ROPE_X], -1);
}
