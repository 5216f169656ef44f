#include "kernels/ops/gelu.h"
#include "kernels/ref/ref.h"

static const double GELU_C = 0.79788456080286535588; /* sqrt(2/pi) */
static const double GELU_CUBE = 0.044715;

void REF(ref_gelu_fwd)(const op_io_t *io) {
    const real_t *x = io->in[GELU_X].data;
    real_t *y = io->out[0].data;
    for (int64_t i = 0, n = view_count(&io->out[0]); i < n; i++) {
        double v = x[i];
        y[i] = (real_t)(0.5 * v * (1 + tanh(GELU_C * (v + GELU_CUBE * v * v * v))));
    }
}

void REF(ref_gelu_bwd)(const op_io_t *io) {
    const real_t *x = io->in[GELU_X].data, *dy = io->gout.data;
    real_t *dx = io->gin[GELU_X].data;
    for (int64_t i = 0, n = view_count(&io->gout); dx && i < n; i++) {
        double v = x[i], t = tanh(GELU_C * (v + GELU_CUBE * v * v * v));
        double slope = 0.5 * (1 + t) + 0.5 * v * (1 - t * t) * GELU_C * (1 + 3 * GELU_CUBE * v * v);
        ref_put(&dx[i], io->acc[GELU_X], dy[i] * slope);
    }
}
