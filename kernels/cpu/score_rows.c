/* Compiled with contraction on (CMakeLists.txt), as panel.c. Whole vectors throughout: short rows are mostly ends. */
#include "kernels/cpu/score_rows.h"
#include <math.h>
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/vecmath.h"

/* Compiled twice by hand, because clones cannot ask for two features at once: whole numbers in vectors of eight come
 * with AVX2, products and sums in one with FMA. */
#if defined(__x86_64__) && !defined(GRAFT_SANITIZE)
#define WIDE            __attribute__((target("avx2,fma")))
#define WIDE_IS_THERE() (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
#else
#define WIDE
#define WIDE_IS_THERE() false
#endif

typedef int32_t bits_t __attribute__((vector_size(32)));

LANES_INLINE lanes_t larger(lanes_t a, lanes_t b) {
    bits_t first = a > b;
    return (lanes_t)((first & (bits_t)a) | (~first & (bits_t)b));
}

/* vec_exp (vecmath.h) of numbers that are no larger than about 1. Below -87.3 the value there; NaN stays NaN. */
LANES_INLINE lanes_t exp_of(lanes_t x) {
    const lanes_t bound = SAME(-VEC_EXP_BOUND);
    bits_t low = x < bound;
    x = (lanes_t)((low & (bits_t)bound) | (~low & (bits_t)x));
    lanes_t shifted = x * VEC_LOG2E + VEC_SHIFT, n = shifted - VEC_SHIFT;
    lanes_t r = x - n * VEC_LN2_HIGH - n * VEC_LN2_LOW;
    return VEC_EXP_POLYNOMIAL(r) * (lanes_t)(((bits_t)shifted - VEC_SHIFT_EXPONENT) << 23);
}

#define HALVES(v) __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3)
#define PAIRS(v)  __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5)
#define ONES(v)   __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6)

LANES_INLINE float max_of(lanes_t v) {
    v = larger(v, HALVES(v));
    v = larger(v, PAIRS(v));
    return larger(v, ONES(v))[0];
}

LANES_INLINE float sum_of(lanes_t v) {
    v += HALVES(v);
    v += PAIRS(v);
    return (v + ONES(v))[0];
}

LANES_INLINE int64_t columns_of(const score_rows_t *t, int64_t i) {
    return cpu_max(0, cpu_min(t->most, t->seen + i));
}

/* The lanes of columns j, j + 1, ... in front of column `seen`. */
LANES_INLINE bits_t lanes_before(int64_t seen, int64_t j) {
    const bits_t lane = {0, 1, 2, 3, 4, 5, 6, 7};
    return lane < (int32_t)(seen - j);
}

/* `seen` > 0. */
LANES_INLINE void softmax_row(float *s, int64_t seen, float *most, float *sum) {
    int64_t last = (seen - 1) / LANES * LANES;
    bits_t live = lanes_before(seen, last);
    lanes_t ends = LOAD(s + last), lowest = SAME(-INFINITY);
    ends = (lanes_t)((live & (bits_t)ends) | (~live & (bits_t)lowest));
    lanes_t high = ends, sums = {0};
    for (int64_t j = 0; j < last; j += LANES) high = larger(LOAD(s + j), high);
    float max = max_of(high);
    for (int64_t j = 0; j < last; j += LANES) {
        lanes_t e = exp_of(LOAD(s + j) - max);
        STORE(s + j, e);
        sums += e;
    }
    lanes_t e = (lanes_t)(live & (bits_t)exp_of(ends - max));
    STORE(s + last, e);
    STORE(s + last + LANES, (lanes_t){0});
    *most = max;
    *sum = sum_of(sums + e);
}

LANES_INLINE void softmax_rows(const score_rows_t *t, float *most, int64_t most_step, float *sum) {
    for (int64_t i = 0; i < t->rows; i++)
        softmax_row(t->s + i * t->step, columns_of(t, i), &most[i * most_step], &sum[i]);
}

WIDE static void softmax_rows_wide(const score_rows_t *t, float *most, int64_t most_step, float *sum) {
    softmax_rows(t, most, most_step, sum);
}

static void softmax_rows_plain(const score_rows_t *t, float *most, int64_t most_step, float *sum) {
    softmax_rows(t, most, most_step, sum);
}

void score_softmax(const score_rows_t *t, float *lse, int64_t lse_step, float *inverse) {
    (WIDE_IS_THERE() ? softmax_rows_wide : softmax_rows_plain)(t, lse, lse_step, inverse);
    for (int64_t i = 0; i < t->rows; i++) {
        lse[i * lse_step] += logf(inverse[i]);
        inverse[i] = 1 / inverse[i];
    }
}

LANES_INLINE void gradient_row(float *s, float *dp, int64_t seen, float lse, float dot) {
    for (int64_t j = 0; j < seen; j += LANES) {
        bits_t live = lanes_before(seen, j);
        lanes_t e = (lanes_t)(live & (bits_t)exp_of(LOAD(s + j) - lse)), d = e * (LOAD(dp + j) - dot);
        STORE(s + j, e);
        STORE(dp + j, (lanes_t)(live & (bits_t)d));
    }
    int64_t end = (seen + LANES - 1) / LANES * LANES;
    STORE(s + end, (lanes_t){0});
    STORE(dp + end, (lanes_t){0});
}

LANES_INLINE void gradient_rows(const score_rows_t *t, float *dp, const float *lse, int64_t lse_step,
                                const float *dot) {
    for (int64_t i = 0; i < t->rows; i++)
        gradient_row(t->s + i * t->step, dp + i * t->step, columns_of(t, i), lse[i * lse_step], dot[i]);
}

WIDE static void gradient_rows_wide(const score_rows_t *t, float *dp, const float *lse, int64_t lse_step,
                                    const float *dot) {
    gradient_rows(t, dp, lse, lse_step, dot);
}

static void gradient_rows_plain(const score_rows_t *t, float *dp, const float *lse, int64_t lse_step,
                                const float *dot) {
    gradient_rows(t, dp, lse, lse_step, dot);
}

void score_gradient(const score_rows_t *t, float *dp, const float *lse, int64_t lse_step, const float *dot) {
    (WIDE_IS_THERE() ? gradient_rows_wide : gradient_rows_plain)(t, dp, lse, lse_step, dot);
}

/* Four rows side by side hide the latency of their sums. Fused by name, lest a compiler takes the sums apart. */
LANES_INLINE void dots(const float *a, const float *b, int64_t stride, int64_t rows, int64_t cols, bool fused,
                       float *dot) {
    for (int64_t i = 0; i < rows; i += PANEL_ROWS) {
        float sum[PANEL_ROWS] = {0};
        const float *x[PANEL_ROWS], *y[PANEL_ROWS];
        for (int h = 0; h < PANEL_ROWS; h++) {
            x[h] = a + cpu_min(i + h, rows - 1) * stride;
            y[h] = b + cpu_min(i + h, rows - 1) * stride;
        }
        for (int64_t c = 0; c < cols; c++)
            for (int h = 0; h < PANEL_ROWS; h++)
                sum[h] = fused ? __builtin_fmaf(x[h][c], y[h][c], sum[h]) : sum[h] + x[h][c] * y[h][c];
        for (int64_t h = 0; h < cpu_min(PANEL_ROWS, rows - i); h++) dot[i + h] = sum[h];
    }
}

WIDE static void dots_wide(const float *a, const float *b, int64_t stride, int64_t rows, int64_t cols, float *dot) {
    dots(a, b, stride, rows, cols, true, dot);
}

static void dots_plain(const float *a, const float *b, int64_t stride, int64_t rows, int64_t cols, float *dot) {
    dots(a, b, stride, rows, cols, false, dot);
}

void score_dots(const float *a, const float *b, int64_t stride, int64_t rows, int64_t cols, float *dot) {
    (WIDE_IS_THERE() ? dots_wide : dots_plain)(a, b, stride, rows, cols, dot);
}
