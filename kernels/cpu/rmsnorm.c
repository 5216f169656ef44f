/* rmsnorm, and add_rmsnorm from the same rows. */
#include "kernels/ops/rmsnorm.h"
#include <math.h>
#include "kernels/cpu/add_norm.h"
#include "kernels/cpu/vecmath.h"

enum { COLUMNS = 64, RUN = 1024 };

/* Runs are summed in float, their totals in double: without wide vectors a long row would lose digits. */
static inline double sum_of_squares(const float *x, int64_t d) {
    double total = 0;
    for (int64_t first = 0; first < d; first += RUN)
        total += (double)vec_dot(x + first, x + first, cpu_min(RUN, d - first));
    return total;
}

GRAFT_CLONES static float rmsnorm_row(float *restrict y, const float *restrict x, const float *restrict w, int64_t d,
                                      double eps) {
    float r = (float)(1 / sqrt(sum_of_squares(x, d) / (double)d + eps));
    for (int64_t i = 0; i < d; i++) y[i] = x[i] * r * w[i];
    return r;
}

GRAFT_CLONES static void rmsnorm_gradient_row(float *restrict dx, bool acc, const float *restrict dy,
                                              const float *restrict x, const float *restrict w, int64_t d, float r) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < d; i++) sum += dy[i] * w[i] * x[i];
    float k = r * r * (sum / (float)d);
    for (int64_t i = 0; i < d; i++) {
        float g = r * (dy[i] * w[i] - x[i] * k);
        dx[i] = acc ? dx[i] + g : g;
    }
}

void cpu_rmsnorm_fwd(const op_io_t *io) {
    const rmsnorm_attr_t *at = io->attr;
    const float *x = io->in[RMSNORM_X].data, *w = io->in[RMSNORM_W].data;
    float *y = io->out[RMSNORM_Y].data, *rstd = io->out[RMSNORM_RSTD].data;
    int64_t rows = io->in[RMSNORM_X].dim[0], d = io->in[RMSNORM_X].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) rstd[n] = rmsnorm_row(y + n * d, x + n * d, w, d, at->eps);
}

static void weight_gradient(const op_io_t *io) {
    const float *x = io->in[RMSNORM_X].data, *rstd = io->out[RMSNORM_RSTD].data, *dy = io->gout.data;
    float *dw = io->gin[RMSNORM_W].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    if (!dw) return;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(d, COLUMNS); t++) {
        double sum[COLUMNS] = {0};
        int64_t first = t * COLUMNS, count = cpu_min(COLUMNS, d - first);
        for (int64_t n = 0; n < rows; n++)
            for (int64_t i = 0; i < count; i++)
                sum[i] += (double)(dy[n * d + first + i] * x[n * d + first + i] * rstd[n]);
        for (int64_t i = 0; i < count; i++)
            dw[first + i] = (float)(io->acc[RMSNORM_W] ? (double)dw[first + i] + sum[i] : sum[i]);
    }
}

void cpu_rmsnorm_bwd(const op_io_t *io) {
    const float *x = io->in[RMSNORM_X].data, *w = io->in[RMSNORM_W].data, *rstd = io->out[RMSNORM_RSTD].data;
    const float *dy = io->gout.data;
    float *dx = io->gin[RMSNORM_X].data;
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    weight_gradient(io);
    if (!dx) return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++)
        rmsnorm_gradient_row(dx + n * d, io->acc[RMSNORM_X], dy + n * d, x + n * d, w, d, rstd[n]);
}

void cpu_add_rmsnorm_fwd(const op_io_t *io) {
    const op_io_t norm = add_norm_inner(io);
    const rmsnorm_attr_t *at = io->attr;
    const float *w = norm.in[RMSNORM_W].data;
    float *y = norm.out[RMSNORM_Y].data, *rstd = norm.out[RMSNORM_RSTD].data;
    int64_t rows = norm.in[RMSNORM_X].dim[0], d = norm.in[RMSNORM_X].dim[1];
    if (!io->in[ADD_NORM_A].data) {
        cpu_rmsnorm_fwd(&norm);
        return;
    }
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) rstd[n] = rmsnorm_row(y + n * d, add_norm_sum(io, n), w, d, at->eps);
}

void cpu_add_rmsnorm_bwd(const op_io_t *io) {
    const op_io_t norm = add_norm_inner(io);
    const float *s = norm.in[RMSNORM_X].data, *w = norm.in[RMSNORM_W].data, *rstd = norm.out[RMSNORM_RSTD].data;
    const float *dy = norm.gout.data;
    int64_t rows = norm.gout.dim[0], d = norm.gout.dim[1];
    weight_gradient(&norm);
    if (!dy) cpu_add_bwd(io);
    if (!dy || (!io->gin[ADD_NORM_A].data && !io->gin[ADD_NORM_B].data)) return;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows; n++) {
        float *ds = add_norm_begin(io, n);
        rmsnorm_gradient_row(ds, io->gout.data != NULL, dy + n * d, s + n * d, w, d, rstd[n]);
        add_norm_end(io, n, ds);
    }
}

size_t cpu_add_rmsnorm_scratch(const op_io_t *io) {
    return add_norm_scratch(io);
}
