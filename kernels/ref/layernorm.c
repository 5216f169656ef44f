#include "kernels/ops/layernorm.h"
#include "kernels/ref/ref.h"

void REF(ref_layernorm_fwd)(const op_io_t *io) {
    const layernorm_attr_t *at = io->attr;
    const real_t *x = io->in[LAYERNORM_X].data, *w = io->in[LAYERNORM_W].data, *b = io->in[LAYERNORM_B].data;
    real_t *y = io->out[LAYERNORM_Y].data, *stat = io->out[LAYERNORM_STAT].data;
    int64_t rows = io->in[LAYERNORM_X].dim[0], d = io->in[LAYERNORM_X].dim[1];
    for (int64_t n = 0; n < rows; n++) {
        double mean = 0, var = 0;
        for (int64_t i = 0; i < d; i++) mean += x[n * d + i];
        mean /= (double)d;
        for (int64_t i = 0; i < d; i++) var += (x[n * d + i] - mean) * (x[n * d + i] - mean);
        double rstd = 1 / sqrt(var / (double)d + at->eps);
        for (int64_t i = 0; i < d; i++) y[n * d + i] = (real_t)((x[n * d + i] - mean) * rstd * w[i] + b[i]);
        stat[2 * n] = (real_t)mean;
        stat[2 * n + 1] = (real_t)rstd;
    }
}

void REF(ref_layernorm_bwd)(const op_io_t *io) {
    const real_t *x = io->in[LAYERNORM_X].data, *w = io->in[LAYERNORM_W].data, *stat = io->out[LAYERNORM_STAT].data;
    const real_t *dy = io->gout.data;
    real_t *dx = io->gin[LAYERNORM_X].data, *dw = io->gin[LAYERNORM_W].data, *db = io->gin[LAYERNORM_B].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    for (int64_t n = 0; dx && n < rows; n++) {
        double mean = stat[2 * n], rstd = stat[2 * n + 1], g_mean = 0, gx_mean = 0;
        for (int64_t i = 0; i < d; i++) {
            double g = (double)dy[n * d + i] * w[i];
            g_mean += g;
            gx_mean += g * (x[n * d + i] - mean) * rstd;
        }
        g_mean /= (double)d;
        gx_mean /= (double)d;
        for (int64_t i = 0; i < d; i++) {
            double g = (double)dy[n * d + i] * w[i], xhat = (x[n * d + i] - mean) * rstd;
            ref_put(&dx[n * d + i], io->acc[LAYERNORM_X], rstd * (g - g_mean - xhat * gx_mean));
        }
    }
    for (int64_t i = 0; dw && i < d; i++) {
        double sum = 0;
        for (int64_t n = 0; n < rows; n++)
            sum += dy[n * d + i] * ((double)x[n * d + i] - stat[2 * n]) * stat[2 * n + 1];
        ref_put(&dw[i], io->acc[LAYERNORM_W], sum);
    }
    for (int64_t i = 0; db && i < d; i++) {
        double sum = 0;
        for (int64_t n = 0; n < rows; n++) sum += dy[n * d + i];
        ref_put(&db[i], io->acc[LAYERNORM_B], sum);
    }
}
