#include "kernels/ops/activation.h"
#include "kernels/ref/ref.h"

void REF(ref_activation_fwd)(const op_io_t *io) {
    const activation_attr_t *at = io->attr;
    const real_t *x = io->in[ACTIVATION_X].data;
    real_t *y = io->out[0].data;
    bool relu = at->kind == ACTIVATION_RELU;
    for (int64_t i = 0, n = view_count(&io->out[0]); i < n; i++)
        y[i] = (real_t)(!relu ? tanh(x[i]) : x[i] < 0 ? 0 : x[i]); /* written so that NaN stays */
}

void REF(ref_activation_bwd)(const op_io_t *io) {
    const activation_attr_t *at = io->attr;
    const real_t *y = io->out[0].data, *dy = io->gout.data;
    real_t *dx = io->gin[ACTIVATION_X].data;
    bool relu = at->kind == ACTIVATION_RELU;
    for (int64_t i = 0, n = view_count(&io->gout); dx && i < n; i++)
        ref_put(&dx[i], io->acc[ACTIVATION_X], !relu ? dy[i] * (1 - (double)y[i] * y[i]) : y[i] > 0 ? dy[i] : 0);
}
