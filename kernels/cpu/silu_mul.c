#include "kernels/ops/silu_mul.h"
#include "kernels/cpu/blocks.h"
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

GRAFT_CLONES static void silu_mul_block(float *restrict y, const float *restrict g, const float *restrict u,
                                        int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = g[i] * vec_sigmoid(g[i]) * u[i];
}

/* d silu(g) / dg */
static inline float slope(float g) {
    float s = vec_sigmoid(g);
    return s * (1.0f + g * (1.0f - s));
}

/* Two loops each, because a choice inside one keeps compilers from vectorising it. */
GRAFT_CLONES static void silu_mul_gradient_g(float *restrict dg, bool acc, const float *restrict dy,
                                             const float *restrict g, const float *restrict u, int64_t n) {
    if (acc)
        for (int64_t i = 0; i < n; i++) dg[i] += dy[i] * u[i] * slope(g[i]);
    else
        for (int64_t i = 0; i < n; i++) dg[i] = dy[i] * u[i] * slope(g[i]);
}

GRAFT_CLONES static void silu_mul_gradient_u(float *restrict du, bool acc, const float *restrict dy,
                                             const float *restrict g, int64_t n) {
    if (acc)
        for (int64_t i = 0; i < n; i++) du[i] += dy[i] * (g[i] * vec_sigmoid(g[i]));
    else
        for (int64_t i = 0; i < n; i++) du[i] = dy[i] * (g[i] * vec_sigmoid(g[i]));
}

/* Both gradients at once share the sigmoid: the usual case. */
GRAFT_CLONES static void silu_mul_gradients(float *restrict dg, float *restrict du, const float *restrict dy,
                                            const float *restrict g, const float *restrict u, int64_t n) {
    for (int64_t i = 0; i < n; i++) {
        float s = vec_sigmoid(g[i]);
        dg[i] = dy[i] * u[i] * (s * (1.0f + g[i] * (1.0f - s)));
        du[i] = dy[i] * (g[i] * s);
    }
}

void cpu_silu_mul_fwd(const op_io_t *io) {
    const float *g = io->in[SILU_MUL_G].data, *u = io->in[SILU_MUL_U].data;
    float *y = io->out[0].data;
    int64_t n = view_count(&io->out[0]);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++)
        silu_mul_block(y + t * BLOCK, g + t * BLOCK, u + t * BLOCK, block_length(n, t));
}

void cpu_silu_mul_bwd(const op_io_t *io) {
    const float *g = io->in[SILU_MUL_G].data, *u = io->in[SILU_MUL_U].data, *dy = io->gout.data;
    float *dg = io->gin[SILU_MUL_G].data, *du = io->gin[SILU_MUL_U].data;
    bool acc_g = io->acc[SILU_MUL_G], acc_u = io->acc[SILU_MUL_U];
    int64_t n = view_count(&io->gout);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < block_count(n); t++) {
        int64_t p = t * BLOCK, length = block_length(n, t);
        if (dg && du && !acc_g && !acc_u) {
            silu_mul_gradients(dg + p, du + p, dy + p, g + p, u + p, length);
            continue;
        }
        if (dg) silu_mul_gradient_g(dg + p, acc_g, dy + p, g + p, u + p, length);
        if (du) silu_mul_gradient_u(du + p, acc_u, dy + p, g + p, length);
    }
}
