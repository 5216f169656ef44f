/* The head over several chunks of rows and segments of the vocabulary, and logits that grow or fall along it. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include "kernels/ops/linear_cross_entropy.h"
#include "tests/op/case_macros.h"
#include "tests/op/common_check.h"

enum { ROWS = 1100, FEW = 100, VOCAB = 3500, WIDTH = 5 };

static const run_options_t all = {.gradients = ~0u};
static int32_t targets[ROWS];
static float weights[ROWS];
static const op_case_t large = CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "head, segments", false, R2(ROWS, WIDTH),
                                    R2(VOCAB, WIDTH), I1(ROWS, targets), {'w', 1, {ROWS, 0, 0}, weights});
static const op_case_t slope = CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "head, slope", false, R2(FEW, 1), R2(VOCAB, 1),
                                    I1(FEW, targets), {'w', 1, {FEW, 0, 0}, weights});

static int set_up(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        targets[i] = i % 3 == 0 ? 0 : i % 3 == 1 ? VOCAB - 1 : i * 97 % VOCAB;
        weights[i] = i % 5 == 4 ? -0.5f : 1;
    }
    return 0;
}

static void test_segments(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    run_t one, other;
    omp_set_num_threads(1);
    run_make(&one, &large, &backend_cpu, &all);
    check_run(&one, (dtypes_t){DT_F32, DT_F32});
    for (int threads = 2; threads <= 5; threads++) {
        omp_set_num_threads(threads);
        run_make(&other, &large, &backend_cpu, &all);
        check_same_run(&one, &other);
        run_release(&other);
    }
    run_release(&one);
    omp_set_num_threads(before);
}

/* z = h w with w from -size to size along the vocabulary, and h = 1, 0 or -1. */
static void make_slope(run_t *r, const backend_t *backend, double size) {
    run_make(r, &slope, backend, &all);
    for (int64_t i = 0; i < FEW; i++) view_put(&r->io.in[LCE_H], i, (double)(i / 2 % 3 - 1));
    for (int64_t v = 0; v < VOCAB; v++)
        view_put(&r->io.in[LCE_W], v, (double)(float)(size * ((double)(2 * v) / (VOCAB - 1) - 1)));
    view_put(&r->io.gout, 0, 1);
    run_forward(r);
    backend->kernel[OP_LINEAR_CROSS_ENTROPY].bwd(&r->io);
}

/* The largest logit comes last, first, or is that of the target far above all others; at 500 most are lost in it. */
static void test_slopes(void **state) {
    (void)state;
    static const double sizes[] = {1, 30, 80, 500};
    for (size_t n = 0; n < sizeof sizes / sizeof *sizes; n++) {
        run_t want, got;
        make_slope(&want, &backend_ref_f64, sizes[n]);
        make_slope(&got, &backend_cpu, sizes[n]);
        for (int o = LCE_LOSS; o <= LCE_NLL; o++)
            check_close(&slope, "output", o, &got.io.out[o], &want.io.out[o], 3e-6, false);
        for (int i = LCE_H; i <= LCE_W; i++)
            check_close(&slope, "gradient", i, &got.io.gin[i], &want.io.gin[i], 3e-6, false);
        run_release(&got);
        run_release(&want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_segments), cmocka_unit_test(test_slopes)};
    return cmocka_run_group_tests(tests, set_up, NULL);
}
