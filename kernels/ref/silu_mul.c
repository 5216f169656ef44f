#include "kernels/ops/silu_mul.h"
#include "kernels/ref/ref.h"

static double sigma(double x) {
    return 1 / (1 + exp(-x));
}

void REF(ref_silu_mul_fwd)(const op_io_t *io) {
    const real_t *g = io->in[SILU_MUL_G].data, *u = io->in[SILU_MUL_U].data;
    real_t *y = io->out[0].data;
    for (int64_t i = 0, n = view_count(&io->out[0]); i < n; i++) y[i] = (real_t)(g[i] * sigma(g[i]) * u[i]);
}

void REF(ref_silu_mul_bwd)(const op_io_t *io) {
    const real_t *g = io->in[SILU_MUL_G].data, *u = io->in[SILU_MUL_U].data, *dy = io->gout.data;
    real_t *dg = io->gin[SILU_MUL_G].data, *du = io->gin[SILU_MUL_U].data;
    for (int64_t i = 0, n = view_count(&io->gout); i < n; i++) {
        double s = sigma(g[i]);
        if (dg) ref_put(&dg[i], io->acc[SILU_MUL_G], (double)dy[i] * u[i] * s * (1 + g[i] * (1 - s)));
        if (du) ref_put(&du[i], io->acc[SILU_MUL_U], dy[i] * (g[i] * s));
    }
}
