/* layernorm, and add_layernorm from the same rows. */
#include "kernels/ops/layernorm.h"
#include <math.h>
#include "kernels/cpu/add_norm.h"

enum { COLUMNS = 64 };

GRAFT_CLONES static void layernorm_row(float *restrict y, float *restrict stat, const float *restrict x,
                                       const float *restrict w, const float *restrict b, int64_t d, double eps) {
    float sum = 0, square = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; i++) sum += x[i];
    float mean = sum / (float)d;
#pragma omp simd reduction(+ : square)
    for (int64_t i = 0; i < d; i++) square += (x[i] - mean) * (x[i] - mean);
    float r = (float)(1 / sqrt((double)square / (double)d + eps));
    for (int64_t i = 0; i < d; i++) y[i] = (x[i] - mean) * r * w[i] + b[i];
    stat[0] = mean;
    stat[1] = r;
}

GRAFT_CLONES static void layernorm_gradient_row(float *restrict dx, bool acc, const float *restrict dy,
                                                const float *restrict x, const float *restrict w,
                                                const float *restrict stat, int64_t d) {
    float mean = stat[0], r = stat[1], g_sum = 0, gx_sum = 0;
#pragma omp simd reduction(+ : g_sum, gx_sum)
    for (int64_t i = 0; i < d; i++) {
        float g = dy[i] * w[i];
        g_sum += g;
        gx_sum += g * (x[i] - mean);
    }
    float g_mean = g_sum / (float)d, gx_mean = gx_sum * r / (float)d;
    for (int64_t i = 0; i < d; i++) {
        float g = r * (dy[i] * w[i] - g_mean - (x[i] - mean) * r * gx_mean);
        dx[i] = acc ? dx[i] + g : g;
    }
}

void cpu_layernorm_fwd(const op_io_t *io) {
    const layernorm_attr_t *at = io->attr;
    const float *x = io->in[LAYERNORM_X].data, *w = io->in[LAYERNORM_W].data, *b = io->in[LAYERNORM_B].data;
    float *y = io->out[LAYERNORM_Y].data, *stat = io->out[LAYERNORM_STAT].data;
    int64_t rows = io->in[LAYERNORM_X].dim[0], d = io->in[LAYERNORM_X].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) layernorm_row(y + n * d, stat + 2 * n, x + n * d, w, b, d, at->eps);
}

/* dw and db of one tile of columns, summed over rows in order. */
static void column_sums(const op_io_t *io, int64_t first, int64_t count) {
    const float *x = io->in[LAYERNORM_X].data, *stat = io->out[LAYERNORM_STAT].data, *dy = io->gout.data;
    float *dw = io->gin[LAYERNORM_W].data, *db = io->gin[LAYERNORM_B].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    double w_sum[COLUMNS] = {0}, b_sum[COLUMNS] = {0};
    for (int64_t n = 0; n < rows; n++)
        for (int64_t i = 0; i < count; i++) b_sum[i] += (double)dy[n * d + first + i];
    for (int64_t n = 0; dw && n < rows; n++) {
        float mean = stat[2 * n], r = stat[2 * n + 1];
        for (int64_t i = 0; i < count; i++)
            w_sum[i] += (double)(dy[n * d + first + i] * ((x[n * d + first + i] - mean) * r));
    }
    for (int64_t i = 0; dw && i < count; i++)
        dw[first + i] = (float)(io->acc[LAYERNORM_W] ? (double)dw[first + i] + w_sum[i] : w_sum[i]);
    for (int64_t i = 0; db && i < count; i++)
        db[first + i] = (float)(io->acc[LAYERNORM_B] ? (double)db[first + i] + b_sum[i] : b_sum[i]);
}

static void weight_gradients(const op_io_t *io) {
    int64_t d = io->gout.dim[1];
    if (!io->gin[LAYERNORM_W].data && !io->gin[LAYERNORM_B].data) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(d, COLUMNS); t++) column_sums(io, t * COLUMNS, cpu_min(COLUMNS, d - t * COLUMNS));
}

void cpu_layernorm_bwd(const op_io_t *io) {
    const float *x = io->in[LAYERNORM_X].data, *w = io->in[LAYERNORM_W].data, *stat = io->out[LAYERNORM_STAT].data;
    const float *dy = io->gout.data;
    float *dx = io->gin[LAYERNORM_X].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    weight_gradients(io);
    if (!dx) return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++)
        layernorm_gradient_row(dx + n * d, io->acc[LAYERNORM_X], dy + n * d, x + n * d, w, stat + 2 * n, d);
}

void cpu_add_layernorm_fwd(const op_io_t *io) {
    const op_io_t norm = add_norm_inner(io);
    const layernorm_attr_t *at = io->attr;
    const float *w = norm.in[LAYERNORM_W].data, *b = norm.in[LAYERNORM_B].data;
    float *y = norm.out[LAYERNORM_Y].data, *stat = norm.out[LAYERNORM_STAT].data;
    int64_t rows = norm.in[LAYERNORM_X].dim[0], d = norm.in[LAYERNORM_X].dim[1];
    if (!io->in[ADD_NORM_A].data) {
        cpu_layernorm_fwd(&norm);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) layernorm_row(y + n * d, stat + 2 * n, add_norm_sum(io, n), w, b, d, at->eps);
}

void cpu_add_layernorm_bwd(const op_io_t *io) {
    const op_io_t norm = add_norm_inner(io);
    const float *s = norm.in[LAYERNORM_X].data, *w = norm.in[LAYERNORM_W].data, *stat = norm.out[LAYERNORM_STAT].data;
    const float *dy = norm.gout.data;
    int64_t rows = norm.gout.dim[0], d = norm.gout.dim[1];
    weight_gradients(&norm);
    if (!dy) cpu_add_bwd(io);
    if (!dy || (!io->gin[ADD_NORM_A].data && !io->gin[ADD_NORM_B].data)) return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float *ds = add_norm_begin(io, n);
        layernorm_gradient_row(ds, io->gout.data != NULL, dy + n * d, s + n * d, w, stat + 2 * n, d);
        add_norm_end(io, n, ds);
    }
}

size_t cpu_add_layernorm_scratch(const op_io_t *io) {
    return add_norm_scratch(io);
}
