#include "kernels/ops/gelu.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

#define GELU_C    0.797884560802865356f /* sqrt(2/pi) */
#define GELU_CUBE 0.044715f

/* (1 + tanh(v)) / 2 = sigmoid(2v): the form that loses no digits where tanh is near -1. */
static inline float half_tanh(float x) {
    return vec_sigmoid(2.0f * GELU_C * (x + GELU_CUBE * (x * x * x)));
}

GRAFT_CLONES static void gelu_block(float *restrict y, const float *restrict x, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = x[i] * half_tanh(x[i]);
}

/* With s = (1 + t)/2: (1 - t^2)/2 = 2 s (1 - s). */
static inline float slope(float x) {
    float s = half_tanh(x);
    return s + x * (2.0f * s * (1.0f - s)) * (GELU_C * (1.0f + 3.0f * GELU_CUBE * (x * x)));
}

/* Two loops, because a choice inside one keeps compilers from vectorising it. */
GRAFT_CLONES static void gelu_gradient(float *restrict dx, bool acc, const float *restrict dy, const float *restrict x,
                                       int64_t n) {
    if (acc)
        for (int64_t i = 0; i < n; i++) dx[i] += dy[i] * slope(x[i]);
    else
        for (int64_t i = 0; i < n; i++) dx[i] = dy[i] * slope(x[i]);
}

void cpu_gelu_fwd(const op_io_t *io) {
    const float *x = io->in[GELU_X].data;
    float *y = io->out[0].data;
    int64_t n = view_count(&io->out[0]);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++) gelu_block(y + t * BLOCK, x + t * BLOCK, block_length(n, t));
}

void cpu_gelu_bwd(const op_io_t *io) {
    const float *x = io->in[GELU_X].data, *dy = io->gout.data;
    float *dx = io->gin[GELU_X].data;
    int64_t n = view_count(&io->gout);
    if (!dx) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++)
        gelu_gradient(dx + t * BLOCK, io->acc[GELU_X], dy + t * BLOCK, x + t * BLOCK, block_length(n, t));
}
