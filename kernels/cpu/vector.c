#include <math.h>
#include <string.h>
#include "kernels/cpu/cpu.h"
#include "kernels/half.h"
#include "kernels/vector.h"

static void add(device_t *d, float *y, const float *x, int64_t n) {
    (void)d;
    for (int64_t i = 0; i < n; i++) y[i] += x[i];
}

static void convert(device_t *d, void *to, dtype_t to_type, const float *x, int64_t n) {
    (void)d;
    uint16_t *out = to;
    if (to_type == DT_F32)
        memcpy(to, x, (size_t)n * sizeof *x);
    else
        for (int64_t i = 0; i < n; i++) out[i] = bf16_from_f32(x[i]);
}

static void taint(device_t *d, float *g, const double *loss, int64_t n) {
    (void)d;
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(loss[i])) g[0] = NAN;
}

static void squares(device_t *d, const float *g, int64_t n, const vector_step_t *step, double *partial) {
    (void)d;
    float f = (float)step->scale;
#pragma omp parallel for schedule(static)
    for (int64_t b = 0; b < vector_blocks(n); b++) {
        double sum = 0;
        for (int64_t i = b * VECTOR_BLOCK; i < n && i < (b + 1) * VECTOR_BLOCK; i++) {
            float v = g[i] * f;
            sum += (double)v * (double)v;
        }
        partial[b] = sum;
    }
}

static void sum(device_t *d, const double *partial, int64_t n, double *to) {
    (void)d;
    double total = 0;
    for (int64_t i = 0; i < n; i++) total += partial[i];
    *to = total;
}

/* As torch's clip_grad_norm_. */
static void norm(device_t *d, const double *partial, int64_t n, const vector_step_t *step, vector_outcome_t *out) {
    double total;
    sum(d, partial, n, &total);
    out->norm = sqrt(total);
    double factor = step->max_norm > 0 ? step->max_norm / (out->norm + 1e-6) : 1.0;
    out->clip = factor < 1.0 ? factor : 1.0;
    out->bad += !isfinite(out->norm);
}

static void update_tile(const vector_adamw_t *a, const vector_tile_t *t, const float *grad, const vector_step_t *step,
                        float clip) {
    double rate = step->rate * t->lr_scale;
    float b1 = (float)a->beta1, c1 = (float)(1.0 - a->beta1), b2 = (float)a->beta2, c2 = (float)(1.0 - a->beta2);
    float root2 = (float)sqrt(step->correction2), eps = (float)a->epsilon, scale = (float)step->scale;
    float keep = t->decay ? (float)(1.0 - rate * a->weight_decay) : 1.0f, size = (float)(rate / step->correction1);
    float *x = t->x, *m = a->exp_avg + (t->at - a->first), *v = a->exp_avg_sq + (t->at - a->first);
    const float *g = grad + t->at;
    for (int64_t k = 0; k < t->n; k++) {
        float s = g[k] * scale * clip;
        m[k] = b1 * m[k] + c1 * s;
        v[k] = b2 * v[k] + c2 * s * s;
        x[k] = x[k] * keep - size * (m[k] / (sqrtf(v[k]) / root2 + eps));
    }
}

static void adamw(device_t *d, const vector_adamw_t *a, const float *g, const vector_step_t *step,
                  const vector_outcome_t *out) {
    (void)d;
    if (out->bad) return;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < a->n_tile; i++) update_tile(a, &a->tile[i], g, step, (float)out->clip);
}

const vector_calls_t vector_cpu = {
    .add = add, .convert = convert, .taint = taint, .squares = squares, .sum = sum, .norm = norm, .adamw = adamw};
