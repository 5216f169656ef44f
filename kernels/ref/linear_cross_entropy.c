#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ref/ref.h"

static double logit(const op_io_t *io, int64_t m, int64_t v) {
    const real_t *h = io->in[LCE_H].data, *w = io->in[LCE_W].data;
    double sum = 0;
    for (int64_t d = io->in[LCE_H].dim[1], i = 0; i < d; i++) sum += (double)h[m * d + i] * w[v * d + i];
    return sum;
}

/* Fills z with the logits of row m and returns log(sum_v exp z[v]). */
static double log_sum_exp(const op_io_t *io, int64_t m, double *z) {
    int64_t vocab = io->in[LCE_W].dim[0];
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < vocab; v++) {
        z[v] = logit(io, m, v);
        max = fmax(max, z[v]);
    }
    for (int64_t v = 0; v < vocab; v++) sum += exp(z[v] - max);
    return max + log(sum);
}

/* The logits of one row, then a row of dh or the log-sum-exps and one column of dz. */
size_t REF(ref_linear_cross_entropy_scratch)(const op_io_t *io) {
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    return sizeof(double) * (size_t)(vocab + d + 2 * rows);
}

void REF(ref_linear_cross_entropy_fwd)(const op_io_t *io) {
    const real_t *w = io->in[LCE_W].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    const float *weight = io->in[LCE_WEIGHTS].data;
    real_t *dh = io->out[LCE_DH].data;
    float *nll = io->out[LCE_NLL].data;
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    double *z = io->scratch, *sum = z + vocab, loss = 0;
    for (int64_t m = 0; m < rows; m++) {
        double lse = log_sum_exp(io, m, z), row_nll = lse - z[target[m]];
        nll[m] = (float)row_nll;
        loss += weight[m] * row_nll;
        if (!io->want_grad) continue;
        for (int64_t i = 0; i < d; i++) sum[i] = 0;
        for (int64_t v = 0; v < vocab; v++) {
            double dz = weight[m] * (exp(z[v] - lse) - (v == target[m] ? 1 : 0));
            for (int64_t i = 0; i < d; i++) sum[i] += dz * w[v * d + i];
        }
        for (int64_t i = 0; i < d; i++) dh[m * d + i] = (real_t)sum[i];
    }
    *(double *)io->out[LCE_LOSS].data = loss;
}

/* The gradient of rows first ... of W, which are those of `input`. */
static void weight_gradient(const op_io_t *io, int input, int64_t first) {
    const real_t *h = io->in[LCE_H].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    const float *weight = io->in[LCE_WEIGHTS].data;
    real_t *gw = io->gin[input].data;
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    double dloss = *(const double *)io->gout.data, *lse = (double *)io->scratch + vocab, *dz = lse + rows;
    for (int64_t m = 0; m < rows; m++) lse[m] = log_sum_exp(io, m, io->scratch);
    for (int64_t r = 0; r < io->in[input].dim[0]; r++) {
        int64_t v = first + r;
        for (int64_t m = 0; m < rows; m++)
            dz[m] = dloss * weight[m] * (exp(logit(io, m, v) - lse[m]) - (v == target[m] ? 1 : 0));
        for (int64_t i = 0; i < d; i++) {
            double sum = 0;
            for (int64_t m = 0; m < rows; m++) sum += dz[m] * h[m * d + i];
            ref_put(&gw[r * d + i], io->acc[input], sum);
        }
    }
}

void REF(ref_linear_cross_entropy_bwd)(const op_io_t *io) {
    const real_t *dh = io->out[LCE_DH].data;
    real_t *gh = io->gin[LCE_H].data;
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1];
    double dloss = *(const double *)io->gout.data;
    for (int64_t i = 0; gh && i < rows * d; i++) ref_put(&gh[i], io->acc[LCE_H], dloss * dh[i]);
    if (io->gin[LCE_W].data) weight_gradient(io, LCE_W, 0);
    if (io->gin[LCE_T].data) weight_gradient(io, LCE_T, ((const linear_cross_entropy_attr_t *)io->attr)->first);
}
