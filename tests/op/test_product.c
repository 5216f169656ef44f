/* Packed products on every instruction set that this processor has, at odd shapes, and products over all threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/product.h"
#include "kernels/philox.h"

enum { MARGIN = 5 }; /* between rows, and around C: what nobody may read or write */

static float drawn(int64_t i) {
    uint32_t word[4];
    rng_words(5, RNG_DROPOUT, 0, (uint64_t)i, word);
    return 2 * rng_unit(word[0]) - 1;
}

/* Rows of `width` numbers `step` apart; what lies between is NaN, and so is a margin before and behind. */
static float *matrix(int64_t rows, int64_t width, int64_t step, int64_t seed) {
    int64_t count = rows * step + 2 * MARGIN;
    float *x = malloc((size_t)count * sizeof *x);
    assert_non_null(x);
    for (int64_t i = 0; i < count; i++) x[i] = NAN;
    for (int64_t i = 0; i < rows * width; i++) x[MARGIN + i / width * step + i % width] = drawn(i + seed);
    return x;
}

/* Everything outside of C is untouched. */
static void check_margins(const float *c, int64_t rows, int64_t cols, int64_t ldc) {
    for (int64_t i = 0; i < rows * ldc + 2 * MARGIN; i++) {
        int64_t at = i - MARGIN;
        bool inside = at >= 0 && at / ldc < rows && at % ldc < cols;
        if (!inside && !isnan(c[i])) fail_msg("written at %lld, outside of C", (long long)at);
        if (inside && isnan(c[i])) fail_msg("NaN at %lld, in C", (long long)at);
    }
}

static void near(float got, double want, int64_t k) {
    if (!(fabs((double)got - want) <= 2e-7 * (double)(k + 4))) fail_msg("%.9g, not %.9g", (double)got, want);
}

/* A shape of C = A B^T + from. */
typedef struct shape {
    int64_t rows, cols, k, gap; /* gap: lda - k, ldb - k, ldc - cols */
    char from;                  /* 0: nothing, 'c': C, 'b': one row */
} shape_t;

static float *product_on(const gemm_set_t *set, const shape_t *s) {
    int64_t step = s->k + s->gap, ldc = s->cols + s->gap;
    float *a = matrix(s->rows, s->k, step, 0), *b = matrix(s->cols, s->k, step, 7),
          *bias = matrix(1, s->cols, s->cols, 3);
    float *c = matrix(s->rows, s->from == 'c' ? s->cols : 0, ldc, 5);
    float *panels = malloc((size_t)(gemm_panels(s->cols, s->k) + 1) * sizeof *panels);
    assert_non_null(panels);
    gemm_pack(set, b + MARGIN, step, s->cols, s->k, panels);
    gemm_block_t g = {.a = a + MARGIN,
                      .b = panels,
                      .rows = s->rows,
                      .cols = s->cols,
                      .k = s->k,
                      .lda = step,
                      .c = c + MARGIN,
                      .ldc = ldc};
    if (s->from == 'c') g.from = g.c, g.from_step = ldc;
    if (s->from == 'b') g.from = bias + MARGIN;
    gemm_block(set, &g);
    free(a), free(b), free(bias), free(panels);
    return c;
}

static void check_values(const float *c, const shape_t *s) {
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j < s->cols; j++) {
            double want = s->from == 'c'   ? (double)drawn(i * s->cols + j + 5)
                          : s->from == 'b' ? (double)drawn(j + 3)
                                           : 0;
            for (int64_t l = 0; l < s->k; l++) want += (double)drawn(i * s->k + l) * (double)drawn(j * s->k + l + 7);
            near(c[MARGIN + i * (s->cols + s->gap) + j], want, s->k);
        }
}

static const int64_t some_cols[] = {1, 5, 8, 47, 48, 49, 96, 103}, some_k[] = {0, 1, 7, 8, 9, 16, 17, 24, 100};

/* Every set; those with fused multiply and add have the same bits. */
static void test_sets(void **state) {
    (void)state;
    int sets = 0;
    for (int64_t rows = 1; rows <= 17; rows++)
        for (size_t n = 0; n < sizeof some_cols / sizeof *some_cols; n++)
            for (size_t k = 0; k < sizeof some_k / sizeof *some_k; k++) {
                const shape_t s = {rows, some_cols[n], some_k[k], (int64_t)(n + k) % 3,
                                   "\0cb"[(rows + (int64_t)k) % 3]};
                float *fused = NULL;
                sets = 0;
                for (const gemm_set_t *set = gemm_sets; set->name; set++) {
                    if (!set->present()) continue;
                    sets++;
                    float *c = product_on(set, &s);
                    check_margins(c, s.rows, s.cols, s.cols + s.gap);
                    check_values(c, &s);
                    for (int64_t i = 0; fused && set[1].name && i < s.rows * (s.cols + s.gap); i++)
                        if (!isnan(c[MARGIN + i]) && c[MARGIN + i] != fused[MARGIN + i])
                            fail_msg("%s has other bits", set->name);
                    if (fused || !set[1].name)
                        free(c);
                    else
                        fused = c;
                }
                free(fused);
            }
    assert_true(sets > 0);
    assert_true(gemm_set()->present());
}

/* C = op(A) op(B), with bias or added to. */
typedef struct product {
    int64_t rows, cols, inner;
    char ta, tb;
    bool acc, bias;
} product_t;

static float *product_of(const product_t *s) {
    int64_t a_rows = s->ta == 'T' ? s->inner : s->rows, a_cols = s->ta == 'T' ? s->rows : s->inner;
    int64_t b_rows = s->tb == 'T' ? s->cols : s->inner, b_cols = s->tb == 'T' ? s->inner : s->cols;
    float *a = matrix(a_rows, a_cols, a_cols + 3, 0), *b = matrix(b_rows, b_cols, b_cols + 2, 7);
    float *c = matrix(s->rows, s->acc ? s->cols : 0, s->cols + 1, 5), *bias = matrix(1, s->cols, s->cols, 3);
    void *scratch = malloc(cpu_product_scratch(s->inner));
    assert_non_null(scratch);
    const cpu_product_t p = {.ta = s->ta,
                             .tb = s->tb,
                             .a = a + MARGIN,
                             .b = b + MARGIN,
                             .c = c + MARGIN,
                             .bias = s->bias ? bias + MARGIN : NULL,
                             .rows = s->rows,
                             .cols = s->cols,
                             .inner = s->inner,
                             .lda = a_cols + 3,
                             .ldb = b_cols + 2,
                             .ldc = s->cols + 1,
                             .acc = s->acc,
                             .scratch = scratch};
    cpu_product(&p, 64);
    free(a), free(b), free(bias), free(scratch);
    return c;
}

static void check_product(const float *c, const product_t *s) {
    check_margins(c, s->rows, s->cols, s->cols + 1);
    for (int64_t i = 0; i < s->rows; i++)
        for (int64_t j = 0; j<s->cols; j += s->cols> 60 ? 7 : 1) {
            double want = s->acc ? (double)drawn(i * s->cols + j + 5) : s->bias ? (double)drawn(j + 3) : 0;
            for (int64_t l = 0; l < s->inner; l++)
                want += (double)drawn(s->ta == 'T' ? l * s->rows + i : i * s->inner + l) *
                        (double)drawn((s->tb == 'T' ? j * s->inner + l : l * s->cols + j) + 7);
            near(c[MARGIN + i * (s->cols + 1) + j], want, s->inner);
        }
}

static const product_t products[] = {
    {0, 5, 7, 'N', 'T', false, true},       {3, 70, 9, 'N', 'T', true, false},
    {95, 50, 20, 'N', 'T', false, true},    {96, 1, 1, 'N', 'T', false, true},
    {97, 50, 0, 'N', 'T', false, true},     {103, 49, 0, 'N', 'T', false, false},
    {130, 145, 33, 'N', 'T', true, false},  {200, 48, 65, 'N', 'T', false, true},
    {1030, 97, 5, 'N', 'T', false, false},  {98, 50, 1601, 'N', 'T', true, false},
    {110, 50, 1601, 'N', 'T', false, true}, {65, 530, 9, 'N', 'N', true, false},
    {70, 9, 40, 'N', 'N', false, false},    {193, 33, 17, 'T', 'N', true, false},
    {5, 600, 30, 'T', 'N', false, false},   {1, 50, 70, 'N', 'T', false, true},
    {2, 33, 100, 'N', 'T', true, false},    {4, 70, 37, 'N', 'T', false, false},
};

/* Values, and the same bits on any number of threads. */
static void test_products(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    for (size_t n = 0; n < sizeof products / sizeof *products; n++) {
        const product_t *s = &products[n];
        omp_set_num_threads(1);
        float *one = product_of(s);
        check_product(one, s);
        for (int threads = 2; threads <= 5; threads++) {
            omp_set_num_threads(threads);
            float *c = product_of(s);
            check_margins(c, s->rows, s->cols, s->cols + 1);
            for (int64_t i = 0; i < s->rows * (s->cols + 1); i++)
                if (!isnan(one[MARGIN + i]) && c[MARGIN + i] != one[MARGIN + i])
                    fail_msg("product %d has other bits on %d threads", (int)n, threads);
            free(c);
        }
        free(one);
    }
    omp_set_num_threads(before);
}

/* A row's bits are the same alone and among others, and so are those of a column. */
static void test_cuts(void **state) {
    (void)state;
    const shape_t whole = {23, 100, 37, 0, 0};
    float *c = product_on(gemm_set(), &whole);
    for (int64_t rows = 1; rows < 23; rows++) {
        const shape_t s = {rows, 100, 37, 0, 0};
        float *some = product_on(gemm_set(), &s);
        assert_memory_equal(some + MARGIN, c + MARGIN, (size_t)(rows * 100) * sizeof *c);
        free(some);
    }
    for (int64_t cols = 1; cols < 100; cols += 9) {
        const shape_t s = {23, cols, 37, 0, 0};
        float *some = product_on(gemm_set(), &s);
        for (int64_t i = 0; i < 23; i++)
            assert_memory_equal(some + MARGIN + i * cols, c + MARGIN + i * 100, (size_t)cols * sizeof *c);
        free(some);
    }
    free(c);
}

/* So are those of a sequence that generates alone or beside others. */
static void test_few(void **state) {
    (void)state;
    const int64_t inner[] = {7, 40, 101, 576};
    for (size_t n = 0; n < sizeof inner / sizeof *inner; n++) {
        const product_t all = {4, 50, inner[n], 'N', 'T', false, true};
        float *c = product_of(&all);
        for (int64_t rows = 1; rows < all.rows; rows++) {
            product_t s = all;
            s.rows = rows;
            float *some = product_of(&s);
            for (int64_t i = 0; i < rows; i++)
                assert_memory_equal(some + MARGIN + i * (s.cols + 1), c + MARGIN + i * (s.cols + 1),
                                    (size_t)s.cols * sizeof *c);
            free(some);
        }
        free(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sets), cmocka_unit_test(test_products),
                                       cmocka_unit_test(test_cuts), cmocka_unit_test(test_few)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
