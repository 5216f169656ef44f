#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ref/ref.h"

/* One row of the head; the target and the other tokens apart. */
typedef struct row {
    int64_t vocab, target;
    double weight;
    double *z;   /* [vocab] logits */
    double rest; /* log of the sum of exp z over all tokens but the target; -inf when there is none */
    double nll, loss;
    double factor; /* dz = factor * ([v = t] - p) */
} row_t;

static double logit(const op_io_t *io, int64_t m, int64_t v) {
    const real_t *h = io->in[LCE_H].data, *w = io->in[LCE_W].data;
    double sum = 0;
    for (int64_t d = io->in[LCE_H].dim[1], i = 0; i < d; i++) sum += (double)h[m * d + i] * w[v * d + i];
    return sum;
}

static double log_sum_of_others(const double *z, int64_t vocab, int64_t target) {
    double max = -INFINITY, sum = 0;
    for (int64_t v = 0; v < vocab; v++)
        if (v != target) max = fmax(max, z[v]);
    for (int64_t v = 0; v < vocab; v++)
        if (v != target) sum += exp(z[v] - max);
    return max + log(sum);
}

/* log(1 + exp(x)) */
static double softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Fills z with the logits of row m. */
static row_t row_of(const op_io_t *io, int64_t m, double *z) {
    row_t r = {.vocab = io->in[LCE_W].dim[0],
               .target = ((const int32_t *)io->in[LCE_TARGETS].data)[m],
               .weight = ((const float *)io->in[LCE_WEIGHTS].data)[m],
               .z = z};
    for (int64_t v = 0; v < r.vocab; v++) z[v] = logit(io, m, v);
    r.rest = r.vocab > 1 ? log_sum_of_others(z, r.vocab, r.target) : -INFINITY;
    r.nll = softplus(r.rest - z[r.target]);
    double unlikely = lce_rest(r.nll);
    bool floored = unlikely < LCE_FLOOR;
    if (r.weight < 0) {
        r.loss = r.weight * log(floored ? LCE_FLOOR : unlikely);
        r.factor = floored ? 0 : -r.weight * exp(-r.nll) / unlikely;
    } else {
        r.loss = r.weight * r.nll;
        r.factor = -r.weight;
    }
    return r;
}

/* d loss / d z[v] at dloss = 1. */
static double gradient(const row_t *r, int64_t v) {
    return r->factor * (v == r->target ? lce_rest(r->nll) : -exp(r->z[v] - r->z[r->target] - r->nll));
}

/* The logits of one row, then a row of dh or of dz for every row of h. */
size_t REF(ref_linear_cross_entropy_scratch)(const op_io_t *io) {
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    return sizeof(double) * (size_t)(vocab + d + rows * vocab);
}

void REF(ref_linear_cross_entropy_fwd)(const op_io_t *io) {
    const real_t *w = io->in[LCE_W].data;
    real_t *dh = io->out[LCE_DH].data;
    float *nll = io->out[LCE_NLL].data;
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    double *z = io->scratch, *sum = z + vocab, loss = 0;
    for (int64_t m = 0; m < rows; m++) {
        row_t r = row_of(io, m, z);
        nll[m] = (float)r.nll;
        loss += r.loss;
        if (!io->want_grad) continue;
        for (int64_t i = 0; i < d; i++) sum[i] = 0;
        for (int64_t v = 0; v < vocab; v++) {
            double dz = gradient(&r, v);
            for (int64_t i = 0; i < d; i++) sum[i] += dz * w[v * d + i];
        }
        for (int64_t i = 0; i < d; i++) dh[m * d + i] = (real_t)sum[i];
    }
    *(double *)io->out[LCE_LOSS].data = loss;
}

/* The gradient of rows first ... of W, which are those of `input`. */
static void weight_gradient(const op_io_t *io, int input, int64_t first) {
    const real_t *h = io->in[LCE_H].data;
    real_t *gw = io->gin[input].data;
    int64_t rows = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    double dloss = *(const double *)io->gout.data, *dz = (double *)io->scratch + vocab;
    for (int64_t m = 0; m < rows; m++) {
        row_t r = row_of(io, m, io->scratch);
        for (int64_t v = 0; v < vocab; v++) dz[m * vocab + v] = dloss * gradient(&r, v);
    }
    for (int64_t r = 0; r < io->in[input].dim[0]; r++)
        for (int64_t i = 0; i < d; i++) {
            double sum = 0;
            for (int64_t m = 0; m < rows; m++) sum += dz[m * vocab + first + r] * h[m * d + i];
            ref_put(&gw[r * d + i], io->acc[input], sum);
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
