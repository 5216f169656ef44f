#include "kernels/ops/rmsnorm.h"
#include "kernels/ref/ref.h"

void REF(ref_rmsnorm_fwd)(const op_io_t *io) {
    const rmsnorm_attr_t *at = io->attr;
    const real_t *x = io->in[RMSNORM_X].data, *w = io->in[RMSNORM_W].data;
    real_t *y = io->out[RMSNORM_Y].data, *rstd = io->out[RMSNORM_RSTD].data;
    int64_t rows = io->in[RMSNORM_X].dim[0], d = io->in[RMSNORM_X].dim[1];
    for (int64_t n = 0; n < rows; n++) {
        double sum = 0;
        for (int64_t i = 0; i < d; i++) sum += (double)x[n * d + i] * x[n * d + i];
        double r = 1 / sqrt(sum / (double)d + at->eps);
        for (int64_t i = 0; i < d; i++) y[n * d + i] = (real_t)(x[n * d + i] * r * w[i]);
        rstd[n] = (real_t)r;
    }
}

void REF(ref_rmsnorm_bwd)(const op_io_t *io) {
    const real_t *x = io->in[RMSNORM_X].data, *w = io->in[RMSNORM_W].data, *rstd = io->out[RMSNORM_RSTD].data;
    const real_t *dy = io->gout.data;
    real_t *dx = io->gin[RMSNORM_X].data, *dw = io->gin[RMSNORM_W].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    for (int64_t n = 0; dx && n < rows; n++) {
        double r = rstd[n], gx = 0;
        for (int64_t i = 0; i < d; i++) gx += (double)dy[n * d + i] * w[i] * x[n * d + i];
        double mean = gx / (double)d;
        for (int64_t i = 0; i < d; i++) {
            double g = (double)dy[n * d + i] * w[i];
            ref_put(&dx[n * d + i], io->acc[RMSNORM_X], r * (g - x[n * d + i] * r * r * mean));
        }
    }
    for (int64_t i = 0; dw && i < d; i++) {
        double sum = 0;
        for (int64_t n = 0; n < rows; n++) sum += (double)dy[n * d + i] * x[n * d + i] * rstd[n];
        ref_put(&dw[i], io->acc[RMSNORM_W], sum);
    }
}
