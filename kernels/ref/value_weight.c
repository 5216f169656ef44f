#include "kernels/ops/value_weight.h"
#include "kernels/ref/ref.h"

static double dot(const real_t *a, const real_t *b, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += (double)a[i] * b[i];
    return sum;
}

void REF(ref_value_weight_fwd)(const op_io_t *io) {
    const value_weight_attr_t *at = io->attr;
    const real_t *h = io->in[VALUE_WEIGHT_H].data, *v = io->in[VALUE_WEIGHT_V].data;
    const float *reward = io->in[VALUE_WEIGHT_REWARD].data, *weight = io->in[VALUE_WEIGHT_WEIGHTS].data;
    float *weighted = io->out[VALUE_WEIGHT_WEIGHTED].data, *kept = io->out[VALUE_WEIGHT_VALUE].data;
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0], d = io->in[VALUE_WEIGHT_H].dim[1];
    double loss = 0;
    for (int64_t m = 0; m < rows; m++) {
        double value = -1 / (1 + exp(-dot(v, h + m * d, d))), advantage = reward[m] - value;
        double omega = exp(advantage / at->beta);
        if (omega > VALUE_WEIGHT_MOST) omega = VALUE_WEIGHT_MOST;
        loss += (1 - at->alpha) * weight[m] * advantage * advantage;
        weighted[m] = (float)(at->alpha * omega * weight[m]);
        kept[m] = (float)value;
    }
    *(double *)io->out[VALUE_WEIGHT_LOSS].data = loss;
}

void REF(ref_value_weight_bwd)(const op_io_t *io) {
    const value_weight_attr_t *at = io->attr;
    const real_t *h = io->in[VALUE_WEIGHT_H].data, *v = io->in[VALUE_WEIGHT_V].data;
    const float *reward = io->in[VALUE_WEIGHT_REWARD].data, *weight = io->in[VALUE_WEIGHT_WEIGHTS].data;
    const float *kept = io->out[VALUE_WEIGHT_VALUE].data;
    real_t *dh = io->gin[VALUE_WEIGHT_H].data, *dv = io->gin[VALUE_WEIGHT_V].data;
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0], d = io->in[VALUE_WEIGHT_H].dim[1];
    double dloss = *(const double *)io->gout.data;
    for (int64_t i = 0; i < d; i++) {
        double sum = 0;
        for (int64_t m = 0; m < rows; m++) {
            double value = kept[m], advantage = reward[m] - value;
            double du = -2 * dloss * (1 - at->alpha) * weight[m] * advantage * value * (1 + value);
            if (dh) ref_put(&dh[m * d + i], io->acc[VALUE_WEIGHT_H], du * v[i]);
            if (dv) sum += du * h[m * d + i];
        }
        if (dv) ref_put(&dv[i], io->acc[VALUE_WEIGHT_V], sum);
    }
}
