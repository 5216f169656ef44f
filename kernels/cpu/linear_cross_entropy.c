#include "kernels/ops/linear_cross_entropy.h"
#include <float.h>
#include <math.h>
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vecmath.h"

/* At most CHUNK rows of logits at a time; for dW tiles of WEIGHT_ROWS rows of W against WEIGHT_CHUNK rows of h. */
enum { CHUNK = 128, WEIGHT_ROWS = 256, WEIGHT_CHUNK = 256, RUN = 1024 };

/* Rows of one chunk: an even number of equal chunks, because one chunk is long work and two threads are the least. */
static int64_t chunk_rows(int64_t m) {
    int64_t parts = cpu_parts(m, CHUNK);
    parts += parts % 2;
    return parts ? ((m + parts - 1) / parts + 7) / 8 * 8 : CHUNK;
}

static int64_t thread_part(const op_io_t *io) {
    return cpu_max(CHUNK * io->in[LCE_W].dim[0], WEIGHT_ROWS * WEIGHT_CHUNK);
}
/* Per-row losses (two floats each), or what rows need in the backward pass (three), come first. */
static int64_t shared_part(const op_io_t *io) {
    return 3 * io->in[LCE_H].dim[0];
}

size_t cpu_linear_cross_entropy_scratch(const op_io_t *io) {
    return cpu_scratch_bytes(shared_part(io), thread_part(io));
}

/* z becomes exp(z - max); returns the sum. Runs are summed in float, their totals in double. */
GRAFT_CLONES static double exp_row(float *restrict z, int64_t n, float max) {
    double total = 0;
    for (int64_t first = 0; first < n; first += RUN) {
        float sum = 0, *run = z + first;
        int64_t count = first + RUN < n ? RUN : n - first;
#pragma omp simd reduction(+ : sum)
        for (int64_t i = 0; i < count; i++) {
            float e = vec_exp(run[i] - max);
            run[i] = e;
            sum += e;
        }
        total += (double)sum;
    }
    return total;
}

GRAFT_CLONES static float row_max(const float *z, int64_t n) {
    return vec_max(z, n);
}

/* A row's z becomes what times the row's factor is dz; nll and the loss, not weighted, come out. */
typedef struct row {
    double nll, loss, factor;
} row_t;

/* dz = weight/sum * (e - sum [v = t]) with e = exp(z - max). */
static row_t likely_row(float *z, int64_t vocab, int32_t t, double weight) {
    float max = row_max(z, vocab), at_target = z[t];
    double sum = exp_row(z, vocab, max), nll = log(sum) + ((double)max - (double)at_target);
    z[t] = (float)((double)z[t] - sum);
    return (row_t){nll, nll, weight / sum};
}

/* log(1 + exp(x)) */
static double softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* The same for -log(1 - p), weight < 0: dz = -|weight| p/rest * (e - rest [v = t]), where max and rest, the sum of e,
 * are over the other tokens. */
static row_t unlikely_row(float *z, int64_t vocab, int32_t t, double weight) {
    double at_target = (double)z[t];
    z[t] = -FLT_MAX;
    float max = row_max(z, vocab);
    double rest = exp_row(z, vocab, max);
    if (vocab == 1) rest = 0;
    z[t] = (float)-rest;
    /* rounded as it is kept, so that the backward pass decides alike on the floor */
    double nll = (double)(float)softplus(log(rest) + (double)max - at_target), unlikely = lce_rest(nll);
    if (unlikely < LCE_FLOOR) return (row_t){nll, -log(LCE_FLOOR), 0};
    return (row_t){nll, -log(unlikely), weight * exp(-nll) / rest};
}

/* One chunk: logits, losses, and dh. */
static void forward_chunk(const op_io_t *io, int64_t first, int64_t rows, float *z, double *losses) {
    const float *h = io->in[LCE_H].data, *w = io->in[LCE_W].data, *weight = io->in[LCE_WEIGHTS].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    float *dh = io->out[LCE_DH].data, *nll = io->out[LCE_NLL].data, factor[CHUNK];
    int64_t d = io->in[LCE_H].dim[1], vocab = io->in[LCE_W].dim[0];
    cpu_gemm('N', 'T', rows, vocab, d, 1.0f, h + first * d, d, w, d, 0.0f, z, vocab);
    for (int64_t r = 0; r < rows; r++) {
        double by = (double)weight[first + r];
        row_t row = (by < 0 ? unlikely_row : likely_row)(z + r * vocab, vocab, target[first + r], by);
        factor[r] = (float)row.factor;
        nll[first + r] = (float)row.nll;
        losses[first + r] = fabs(by) * row.loss;
    }
    if (!io->want_grad) return;
    cpu_gemm('N', 'N', rows, d, vocab, 1.0f, z, vocab, w, d, 0.0f, dh + first * d, d);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < d; i++) dh[(first + r) * d + i] *= factor[r];
}

void cpu_linear_cross_entropy_fwd(const op_io_t *io) {
    int64_t m = io->in[LCE_H].dim[0], tile = chunk_rows(m);
    double *losses = io->scratch, loss = 0;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(m, tile); t++)
        forward_chunk(io, t * tile, cpu_min(tile, m - t * tile),
                      cpu_thread_scratch(io, shared_part(io), thread_part(io)), losses);
    for (int64_t n = 0; n < m; n++) loss += losses[n];
    *(double *)io->out[LCE_LOSS].data = loss;
}

GRAFT_CLONES static void logit_gradient_row(float *restrict z, int64_t n, float lse, float factor) {
    for (int64_t i = 0; i < n; i++) z[i] = factor * vec_exp(z[i] - lse);
}

/* What the gradient of logits is made of: dz[v] = factor * exp(z[v] - log_sum) but for the target, where it is `at`. */
typedef struct head_row {
    float log_sum, factor, at;
} head_row_t;

static head_row_t head_row(float nll, float at_target, float weight) {
    double rest = lce_rest((double)nll), p = exp(-(double)nll);
    if (weight >= 0 || isnan(weight)) return (head_row_t){nll + at_target, weight, (float)((double)-weight * rest)};
    float factor = rest < LCE_FLOOR ? 0 : (float)((double)weight * p);
    return (head_row_t){(float)((double)nll + (double)at_target + log(rest)), factor, -factor};
}

/* dW of rows v ... v+count of W, summed over chunks of h in order. */
static void weight_tile(const op_io_t *io, int64_t v, int64_t count, const head_row_t *row, float *z, bool acc,
                        float *dw) {
    const float *h = io->in[LCE_H].data, *w = io->in[LCE_W].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    const float dloss = (float)*(const double *)io->gout.data;
    int64_t m = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1];
    if (m == 0 && !acc) memset(dw, 0, (size_t)(count * d) * sizeof *dw);
    for (int64_t first = 0; first < m; first += WEIGHT_CHUNK) {
        int64_t rows = cpu_min(WEIGHT_CHUNK, m - first);
        cpu_gemm('N', 'T', rows, count, d, 1.0f, h + first * d, d, w + v * d, d, 0.0f, z, count);
        for (int64_t r = 0; r < rows; r++) {
            const head_row_t *at = &row[first + r];
            int64_t t = target[first + r] - v;
            logit_gradient_row(z + r * count, count, at->log_sum, dloss * at->factor);
            if (t >= 0 && t < count) z[r * count + t] = dloss * at->at;
        }
        cpu_gemm('T', 'N', count, d, rows, 1.0f, z, count, h + first * d, d, first > 0 || acc ? 1.0f : 0.0f, dw, d);
    }
}

static void head_rows(const op_io_t *io, head_row_t *row) {
    const float *h = io->in[LCE_H].data, *w = io->in[LCE_W].data, *weight = io->in[LCE_WEIGHTS].data;
    const float *nll = io->out[LCE_NLL].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    int64_t m = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < m; n++) row[n] = head_row(nll[n], vec_dot(h + n * d, w + target[n] * d, d), weight[n]);
}

/* Of W itself, or of the rows from `first` on that are input T. */
static void weight_gradient(const op_io_t *io, int input, int64_t first) {
    int64_t rows = io->in[input].dim[0], d = io->in[LCE_H].dim[1];
    float *dw = io->gin[input].data;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(rows, WEIGHT_ROWS); t++)
        weight_tile(io, first + t * WEIGHT_ROWS, cpu_min(WEIGHT_ROWS, rows - t * WEIGHT_ROWS), io->scratch,
                    cpu_thread_scratch(io, shared_part(io), thread_part(io)), io->acc[input], dw + t * WEIGHT_ROWS * d);
}

void cpu_linear_cross_entropy_bwd(const op_io_t *io) {
    const float *dh = io->out[LCE_DH].data, dloss = (float)*(const double *)io->gout.data;
    float *gh = io->gin[LCE_H].data;
    int64_t m = io->in[LCE_H].dim[0], d = io->in[LCE_H].dim[1];
    if (gh) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < m; n++)
            for (int64_t i = n * d; i < (n + 1) * d; i++)
                gh[i] = io->acc[LCE_H] ? gh[i] + dloss * dh[i] : dloss * dh[i];
    }
    if (io->gin[LCE_W].data || io->gin[LCE_T].data) head_rows(io, io->scratch);
    if (io->gin[LCE_W].data) weight_gradient(io, LCE_W, 0);
    if (io->gin[LCE_T].data) weight_gradient(io, LCE_T, ((const linear_cross_entropy_attr_t *)io->attr)->first);
}
