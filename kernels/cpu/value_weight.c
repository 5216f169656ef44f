#include "kernels/ops/value_weight.h"
#include <math.h>
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

enum { COLUMNS = 64 };

GRAFT_CLONES static float value_dot(const float *v, const float *h, int64_t d) {
    return vec_dot(v, h, d);
}

/* reward - V, from V as it is kept. */
static double advantage(const op_io_t *io, int64_t m) {
    const float *reward = io->in[VALUE_WEIGHT_REWARD].data, *value = io->out[VALUE_WEIGHT_VALUE].data;
    return (double)reward[m] - (double)value[m];
}

void cpu_value_weight_fwd(const op_io_t *io) {
    const value_weight_attr_t *at = io->attr;
    const float *h = io->in[VALUE_WEIGHT_H].data, *v = io->in[VALUE_WEIGHT_V].data;
    const float *weight = io->in[VALUE_WEIGHT_WEIGHTS].data;
    float *weighted = io->out[VALUE_WEIGHT_WEIGHTED].data, *value = io->out[VALUE_WEIGHT_VALUE].data;
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0], d = io->in[VALUE_WEIGHT_H].dim[1];
    double loss = 0;
#pragma omp parallel for schedule(static)
    for (int64_t m = 0; m < rows; m++) {
        value[m] = (float)(-1 / (1 + exp(-(double)value_dot(v, h + m * d, d))));
        double omega = exp(advantage(io, m) / at->beta);
        if (omega > VALUE_WEIGHT_MOST) omega = VALUE_WEIGHT_MOST;
        weighted[m] = (float)(at->alpha * omega * (double)weight[m]);
    }
    for (int64_t m = 0; m < rows; m++) loss += (double)weight[m] * advantage(io, m) * advantage(io, m);
    *(double *)io->out[VALUE_WEIGHT_LOSS].data = (1 - at->alpha) * loss;
}

/* d loss / d (v . h[m]) */
static double score_gradient(const op_io_t *io, int64_t m) {
    const value_weight_attr_t *at = io->attr;
    const float *weight = io->in[VALUE_WEIGHT_WEIGHTS].data, *value = io->out[VALUE_WEIGHT_VALUE].data;
    double dloss = *(const double *)io->gout.data, of = (double)value[m];
    return -2 * dloss * (1 - at->alpha) * (double)weight[m] * advantage(io, m) * of * (1 + of);
}

void cpu_value_weight_bwd(const op_io_t *io) {
    const float *h = io->in[VALUE_WEIGHT_H].data, *v = io->in[VALUE_WEIGHT_V].data;
    float *dh = io->gin[VALUE_WEIGHT_H].data, *dv = io->gin[VALUE_WEIGHT_V].data;
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0], d = io->in[VALUE_WEIGHT_H].dim[1];
    bool acc_h = io->acc[VALUE_WEIGHT_H], acc_v = io->acc[VALUE_WEIGHT_V];
#pragma omp parallel for schedule(static)
    for (int64_t m = 0; m < rows; m++) {
        float du = (float)score_gradient(io, m);
        for (int64_t i = 0; dh && i < d; i++) dh[m * d + i] = acc_h ? dh[m * d + i] + du * v[i] : du * v[i];
    }
    if (!dv) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(d, COLUMNS); t++) {
        double sum[COLUMNS] = {0};
        int64_t first = t * COLUMNS, count = cpu_min(COLUMNS, d - first);
        for (int64_t m = 0; m < rows; m++) {
            double du = score_gradient(io, m);
            for (int64_t i = 0; i < count; i++) sum[i] += du * (double)h[m * d + first + i];
        }
        for (int64_t i = 0; i < count; i++) dv[first + i] = (float)(acc_v ? (double)dv[first + i] + sum[i] : sum[i]);
    }
}
