/* Rows of negative weight where digits are easily lost, and what the value head's numbers are, by hand. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/value_weight.h"
#include "tests/op/common_case.h"

static const run_options_t all = {.gradients = ~0u};
static const backend_t *const backends[] = {&backend_ref_f64, &backend_ref_f32, &backend_cpu};

static void put(view_t *v, int64_t i, double value) {
    if (v->dtype == DT_F32)
        ((float *)v->data)[i] = (float)value;
    else
        ((double *)v->data)[i] = value;
}

static void near(double got, double want, double limit) {
    if (!(fabs(got - want) <= limit * fabs(want))) fail_msg("%.12g, not %.12g", got, want);
}

/* h is 1, W the logits themselves: z = (gap, 0, 0), the target is the first token. */
typedef struct tail {
    double gap, loss, at_target, elsewhere; /* of -log(1 - p) and its gradient */
} tail_t;

static void check_tail(const backend_t *backend, const tail_t *want) {
    static const int32_t target[1] = {0};
    static const float weight[1] = {-0.5f};
    const op_case_t c = {"tail",
                         OP_LINEAR_CROSS_ENTROPY,
                         NULL,
                         {{'r', 2, {1, 1}, NULL}, {'r', 2, {3, 1}, NULL}, {'i', 1, {1}, target}, {'w', 1, {1}, weight}},
                         false};
    run_t r;
    run_make(&r, &c, backend, &all);
    put(&r.io.in[LCE_H], 0, 1);
    for (int64_t i = 0; i < 3; i++) put(&r.io.in[LCE_W], i, i == 0 ? want->gap : 0);
    put(&r.io.gout, 0, 1);
    run_forward(&r);
    backend->kernel[c.op].bwd(&r.io);
    const double limit = 1e-6;
    near(view_at(&r.io.out[LCE_LOSS], 0), 0.5 * want->loss, limit);
    near(view_at(&r.io.out[LCE_NLL], 0), log1p(2 * exp(-want->gap)), limit);
    near(view_at(&r.io.gin[LCE_W], 0), 0.5 * want->at_target, limit);
    near(view_at(&r.io.gin[LCE_W], 1), 0.5 * want->elsewhere, limit);
    near(view_at(&r.io.gin[LCE_H], 0), 0.5 * want->at_target * want->gap, limit); /* dh = dz W */
    run_release(&r);
}

/* 1 - p from 1/2 down to 2e-19, where p is 1 in double, and below the floor. */
static void test_tails(void **state) {
    (void)state;
    for (double gap = 1; gap < 60; gap += 7) {
        double rest = 2 * exp(-gap) / (1 + 2 * exp(-gap)), p = 1 / (1 + 2 * exp(-gap));
        tail_t t = {gap, -log(rest), p, -p / 2};
        if (rest < LCE_FLOOR) t = (tail_t){gap, -log(LCE_FLOOR), 0, 0};
        for (size_t b = 0; b < 3; b++) check_tail(backends[b], &t);
    }
}

/* A vocabulary of one token has no other: the floor. */
static void test_one_token(void **state) {
    (void)state;
    static const int32_t target[1] = {0};
    static const float weight[1] = {-2};
    const op_case_t c = {"one",
                         OP_LINEAR_CROSS_ENTROPY,
                         NULL,
                         {{'r', 2, {1, 2}, NULL}, {'r', 2, {1, 2}, NULL}, {'i', 1, {1}, target}, {'w', 1, {1}, weight}},
                         false};
    for (size_t b = 0; b < 3; b++) {
        run_t r;
        run_make(&r, &c, backends[b], &all);
        near(view_at(&r.io.out[LCE_LOSS], 0), -2 * log(LCE_FLOOR), 1e-12);
        for (int64_t i = 0; i < 2; i++) {
            assert_true(view_at(&r.io.gin[LCE_H], i) == 0);
            assert_true(view_at(&r.io.gin[LCE_W], i) == 0);
        }
        run_release(&r);
    }
}

/* v = 0, as at the start: V = -1/2. */
static void test_value_head_at_zero(void **state) {
    (void)state;
    static const value_weight_attr_t attr = {0.25, 2};
    static const float reward[3] = {-1, 0, 20}, weight[3] = {1, 2, 0.5f};
    const op_case_t c = {"start",
                         OP_VALUE_WEIGHT,
                         &attr,
                         {{'r', 2, {3, 2}, NULL}, {'r', 1, {2}, NULL}, {'w', 1, {3}, reward}, {'w', 1, {3}, weight}},
                         false};
    for (size_t b = 0; b < 3; b++) {
        run_t r;
        run_make(&r, &c, backends[b], &all);
        for (int64_t i = 0; i < 2; i++) put(&r.io.in[VALUE_WEIGHT_V], i, 0);
        put(&r.io.gout, 0, 1);
        run_forward(&r);
        backends[b]->kernel[c.op].bwd(&r.io);
        near(view_at(&r.io.out[VALUE_WEIGHT_LOSS], 0), 0.75 * (0.25 + 2 * 0.25 + 0.5 * 20.5 * 20.5), 1e-12);
        near(view_at(&r.io.out[VALUE_WEIGHT_WEIGHTED], 0), 0.25 * exp(-0.25), 1e-7);
        near(view_at(&r.io.out[VALUE_WEIGHT_WEIGHTED], 1), 0.25 * exp(0.25) * 2, 1e-7);
        near(view_at(&r.io.out[VALUE_WEIGHT_WEIGHTED], 2), 0.25 * 1000 * 0.5, 1e-12); /* exp(10.25) is above the cap */
        for (int64_t i = 0; i < 2; i++) {
            double want = 0; /* d/du (R - V)^2 = -2 (R - V) V (1 + V) = (R - V)/2 */
            for (int64_t m = 0; m < 3; m++)
                want += 0.75 * (double)weight[m] * ((double)reward[m] + 0.5) / 2 *
                        view_at(&r.io.in[VALUE_WEIGHT_H], 2 * m + i);
            near(view_at(&r.io.gin[VALUE_WEIGHT_V], i), want, 1e-6);
            assert_true(view_at(&r.io.gin[VALUE_WEIGHT_H], i) == 0);
        }
        run_release(&r);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tails),
        cmocka_unit_test(test_one_token),
        cmocka_unit_test(test_value_head_at_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
