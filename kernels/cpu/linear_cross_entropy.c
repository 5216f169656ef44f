#include "kernels/ops/linear_cross_entropy.h"
#include <float.h>
#include <math.h>
#include "kernels/cpu/product.h"
#include "kernels/cpu/vecmath.h"

/* Forward: the vocabulary is cut in at most SEGMENTS segments of LEAST_SEGMENT tokens or more, each one thread's work
 * for a chunk of CHUNK rows. In a segment, blocks of BLOCK tokens follow each other: logits, their exponentials
 * relative to the largest logit so far, and their product with the block's rows of W, added up; a larger logit scales
 * what is there. So a block's logits stay in cache, and its rows of W are read once for all rows. The target is left
 * out, and comes in when the segments are put together. Backward: the gradient of BACK_TOKENS rows of W from BACK_ROWS
 * rows of h at a time. */
enum { SEGMENTS = 16, LEAST_SEGMENT = 1024, CHUNK = 512, BLOCK = 384, BACK_TOKENS = 192, BACK_ROWS = 1024 };

/* What a segment knows of a row. */
typedef struct part {
    double rest; /* sum of exp(z - max) over tokens other than the target */
    float max, at_target;
} part_t;

typedef struct plan {
    int64_t m, d, vocab, segment, segments;
} plan_t;

static plan_t plan_of(const op_io_t *io) {
    plan_t p = {.m = io->in[LCE_H].dim[0], .d = io->in[LCE_H].dim[1], .vocab = io->in[LCE_W].dim[0]};
    int64_t most = cpu_max(1, cpu_min(SEGMENTS, p.vocab / LEAST_SEGMENT));
    p.segment = cpu_max(1, cpu_parts(cpu_parts(p.vocab, most), BLOCK)) * BLOCK;
    p.segments = cpu_parts(p.vocab, p.segment);
    return p;
}

/* Scratch of all: per-row losses (doubles) or head_row_t of all rows; of a chunk, parts and sums of every segment. A
 * thread's: a block of logits, a packed panel. */
static int64_t row_floats(const plan_t *p) {
    return (4 * p->m + 15) / 16 * 16;
}
static int64_t shared_floats(const plan_t *p) {
    int64_t rows = cpu_min((p->m + 7) / 8 * 8, CHUNK);
    return row_floats(p) + p->segments * rows * ((int64_t)(sizeof(part_t) / sizeof(float)) + p->d);
}
static int64_t thread_floats(const plan_t *p) {
    return cpu_max(CHUNK * BLOCK, BACK_ROWS * BACK_TOKENS) + cpu_product_part(p->d);
}

size_t cpu_linear_cross_entropy_scratch(const op_io_t *io) {
    plan_t p = plan_of(io);
    return CPU_LINE + cpu_scratch_bytes(shared_floats(&p), thread_floats(&p));
}

static float *thread_scratch(const op_io_t *io, const plan_t *p) {
    return cpu_line(io->scratch) + shared_floats(p) + omp_get_thread_num() * thread_floats(p);
}

/* z becomes exp(z - max); returns the sum. */
GRAFT_CLONES static float exp_row(float *restrict z, int64_t n, float max) {
    float sum = 0;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < n; i++) {
        float e = vec_exp(z[i] - max);
        z[i] = e;
        sum += e;
    }
    return sum;
}

GRAFT_CLONES static float row_max(const float *z, int64_t n) {
    return vec_max(z, n);
}

/* Takes a block's logits of one row into its part; z becomes exp(z - part->max), next to nothing (1e-38) at
 * the target. `sums` are those of the blocks before. t: the target's place in the block, if it is there. NaN passes. */
static void take_block(float *z, int64_t n, int64_t t, bool first, part_t *part, float *sums, int64_t d) {
    if (t >= 0 && t < n) part->at_target = z[t], z[t] = -FLT_MAX;
    float max = row_max(z, n);
    if (first) {
        part->max = max;
        part->rest = 0;
    } else if (!(max <= part->max)) {
        float by = expf(part->max - max);
        for (int64_t i = 0; sums && i < d; i++) sums[i] *= by;
        part->rest *= (double)by;
        part->max = max;
    }
    part->rest += (double)exp_row(z, n, part->max);
}

/* Logits of tokens v ... v+n and rows first ... first+rows: z [rows, n], behind which `panel` is scratch. */
static void block_logits(const op_io_t *io, const plan_t *p, int64_t first, int64_t rows, int64_t v, int64_t n,
                         float *z, float *panel) {
    const cpu_product_t logits = {.ta = 'N',
                                  .tb = 'T',
                                  .a = (const float *)io->in[LCE_H].data + first * p->d,
                                  .lda = p->d,
                                  .b = (const float *)io->in[LCE_W].data + v * p->d,
                                  .ldb = p->d,
                                  .c = z,
                                  .ldc = n,
                                  .rows = rows,
                                  .cols = n,
                                  .inner = p->d,
                                  .scratch = panel};
    cpu_product_alone(&logits);
}

/* One segment of one chunk of `rows` rows: parts, and the sums over v of exp(z - max) W[v] if sums is not NULL. */
static void forward_segment(const op_io_t *io, const plan_t *p, int64_t first, int64_t rows, int64_t segment,
                            part_t *parts, float *sums) {
    const float *w = io->in[LCE_W].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    float *z = thread_scratch(io, p);
    int64_t begin = segment * p->segment, end = cpu_min(p->vocab, begin + p->segment), d = p->d;
    for (int64_t v = begin; v < end; v += BLOCK) {
        int64_t n = cpu_min(BLOCK, end - v);
        block_logits(io, p, first, rows, v, n, z, z + CHUNK * BLOCK);
        for (int64_t r = 0; r < rows; r++)
            take_block(z + r * n, n, target[first + r] - v, v == begin, &parts[r], sums ? sums + r * d : NULL, d);
        if (sums) cpu_gemm('N', 'N', rows, d, n, 1.0f, z, n, w + v * d, d, v == begin ? 0.0f : 1.0f, sums, d);
    }
}

/* log(1 + exp(x)) */
static double softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* Row n of all, r of its chunk, from its segments: the loss, and dh = factor * (sum over v != t of exp(z - max) W[v] -
 * rest W[t]), where max and rest are of the other tokens. */
static void join_row(const op_io_t *io, const plan_t *p, int64_t n, int64_t rows, const part_t *parts,
                     const float *sums, double *losses) {
    const float *w = io->in[LCE_W].data;
    int64_t t = ((const int32_t *)io->in[LCE_TARGETS].data)[n], d = p->d;
    double weight = (double)((const float *)io->in[LCE_WEIGHTS].data)[n], rest = 0, factor, loss;
    double at_target = (double)parts[t / p->segment * rows].at_target, by[SEGMENTS];
    float max = parts[0].max;
    for (int64_t s = 1; s < p->segments; s++)
        if (!(parts[s * rows].max <= max)) max = parts[s * rows].max;
    for (int64_t s = 0; s < p->segments; s++) {
        by[s] = exp((double)parts[s * rows].max - (double)max);
        rest += by[s] * parts[s * rows].rest;
    }
    if (p->vocab == 1) rest = 0;
    double nll = softplus(log(rest) + (double)max - at_target);
    if (weight < 0) {
        double unlikely = lce_rest((double)(float)nll); /* rounded as it is kept: backward decides alike on the floor */
        bool floored = unlikely < LCE_FLOOR;
        loss = -log(floored ? LCE_FLOOR : unlikely);
        factor = floored ? 0 : weight * exp(-nll) / rest;
    } else {
        loss = nll;
        factor = weight / (rest + exp(at_target - (double)max));
    }
    ((float *)io->out[LCE_NLL].data)[n] = (float)nll;
    losses[n] = fabs(weight) * loss;
    if (!sums) return;
    float *dh = (float *)io->out[LCE_DH].data + n * d, of_target = (float)(-rest * factor);
    for (int64_t i = 0; i < d; i++) dh[i] = of_target * w[t * d + i];
    for (int64_t s = 0; s < p->segments; s++) {
        float some = (float)(by[s] * factor);
        for (int64_t i = 0; i < d; i++) dh[i] += some * sums[s * rows * d + i];
    }
}

void cpu_linear_cross_entropy_fwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    int64_t tile = cpu_tile(p.m, CHUNK);
    double *losses = (double *)(void *)cpu_line(io->scratch), loss = 0;
    for (int64_t first = 0; first < p.m; first += tile) {
        int64_t rows = cpu_min(tile, p.m - first);
        part_t *parts = (part_t *)(void *)(cpu_line(io->scratch) + row_floats(&p));
        float *sums = io->want_grad ? (float *)(parts + p.segments * rows) : NULL;
#pragma omp parallel
        {
#pragma omp for schedule(dynamic)
            for (int64_t s = 0; s < p.segments; s++)
                forward_segment(io, &p, first, rows, s, parts + s * rows, sums ? sums + s * rows * p.d : NULL);
#pragma omp for schedule(static)
            for (int64_t r = 0; r < rows; r++)
                join_row(io, &p, first + r, rows, parts + r, sums ? sums + r * p.d : NULL, losses);
        }
    }
    for (int64_t n = 0; n < p.m; n++) loss += losses[n];
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
static void weight_tile(const op_io_t *io, const plan_t *p, int64_t v, int64_t count, const head_row_t *row, bool acc,
                        float *dw) {
    const float *h = io->in[LCE_H].data;
    const int32_t *target = io->in[LCE_TARGETS].data;
    const float dloss = (float)*(const double *)io->gout.data;
    float *z = thread_scratch(io, p);
    int64_t d = p->d;
    if (p->m == 0 && !acc) memset(dw, 0, (size_t)(count * d) * sizeof *dw);
    for (int64_t first = 0; first < p->m; first += BACK_ROWS) {
        int64_t rows = cpu_min(BACK_ROWS, p->m - first);
        block_logits(io, p, first, rows, v, count, z, z + BACK_ROWS * BACK_TOKENS);
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
    const plan_t p = plan_of(io);
    const head_row_t *row = (const head_row_t *)(void *)cpu_line(io->scratch);
    int64_t rows = io->in[input].dim[0];
    float *dw = io->gin[input].data;
#pragma omp parallel for schedule(dynamic)
    for (int64_t v = 0; v < rows; v += BACK_TOKENS)
        weight_tile(io, &p, first + v, cpu_min(BACK_TOKENS, rows - v), row, io->acc[input], dw + v * p.d);
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
    if (io->gin[LCE_W].data || io->gin[LCE_T].data) head_rows(io, (head_row_t *)(void *)cpu_line(io->scratch));
    if (io->gin[LCE_W].data) weight_gradient(io, LCE_W, 0);
    if (io->gin[LCE_T].data) weight_gradient(io, LCE_T, ((const linear_cross_entropy_attr_t *)io->attr)->first);
}
