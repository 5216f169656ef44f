#include "kernels/ops/activation.h"
#include <math.h>
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"

/* y may be x, dx may be dy. */
typedef struct kind {
    void (*forward)(float *y, const float *x, int64_t n);
    void (*backward)(float *dx, bool acc, const float *dy, const float *y, int64_t n);
} kind_t;

static void tanh_block(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = tanhf(x[i]);
}

static void tanh_gradient(float *dx, bool acc, const float *dy, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float d = dy[i] * ((1.0f - y[i]) * (1.0f + y[i]));
        dx[i] = acc ? dx[i] + d : d;
    }
}

/* Written so that NaN stays. */
static void relu_block(float *y, const float *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] < 0 ? 0 : x[i];
}

static void relu_gradient(float *dx, bool acc, const float *dy, const float *y, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float d = y[i] > 0 ? dy[i] : 0;
        dx[i] = acc ? dx[i] + d : d;
    }
}

static const kind_t kinds[] = {
    [ACTIVATION_TANH] = {tanh_block, tanh_gradient},
    [ACTIVATION_RELU] = {relu_block, relu_gradient},
};

void cpu_activation_fwd(const op_io_t *io) {
    const kind_t *kind = &kinds[((const activation_attr_t *)io->attr)->kind];
    const float *x = io->in[ACTIVATION_X].data;
    float *y = io->out[0].data;
    int64_t n = view_count(&io->out[0]);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++) kind->forward(y + t * BLOCK, x + t * BLOCK, block_length(n, t));
}

void cpu_activation_bwd(const op_io_t *io) {
    const kind_t *kind = &kinds[((const activation_attr_t *)io->attr)->kind];
    const float *y = io->out[0].data, *dy = io->gout.data;
    float *dx = io->gin[ACTIVATION_X].data;
    int64_t n = view_count(&io->gout);
    if (!dx) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++)
        kind->backward(dx + t * BLOCK, io->acc[ACTIVATION_X], dy + t * BLOCK, y + t * BLOCK, block_length(n, t));
}
