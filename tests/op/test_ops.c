/* Every op on every case: the double reference against finite differences, the float backends against the double
 * reference, sharing of buffers, what backward may read, accumulation, and equal bits on any number of threads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/ops/lowrank.h"
#include "kernels/philox.h"
#include "tests/op/common_check.h"

static const double difference_tolerance = 2e-7;

static const run_options_t all = {.gradients = ~0u};

static double share_of_loss(const view_t *out, const view_t *gradient) {
    double sum = 0;
    for (int64_t i = 0; gradient->data && i < view_count(out); i++) sum += view_at(out, i) * view_at(gradient, i);
    return sum;
}

static double loss_of(const run_t *r) {
    return share_of_loss(&r->io.out[0], &r->io.gout) + share_of_loss(&r->io.out[1], &r->io.gout1);
}

/* Up to 40 places of every differentiable input, spread evenly. */
static void check_differences(const op_case_t *c, uint32_t missing) {
    const run_options_t options = {.gradients = ~0u, .missing = missing};
    run_t r;
    run_make(&r, c, &backend_ref_f64, &options);
    for (int i = 0; i < OP_MAX_IN; i++) {
        int64_t count = r.io.gin[i].data ? view_count(&r.io.in[i]) : 0,
                stride = count / (view_count(&r.io.out[0]) > 3000 ? 3 : 40) + 1;
        for (int64_t p = 0; p < count; p += stride) {
            double *x = (double *)r.io.in[i].data + p, was = *x, h = 1e-4, up, down;
            double g = view_at(&r.io.gin[i], p);
            *x = was + h;
            run_forward(&r);
            up = loss_of(&r);
            *x = was - h;
            run_forward(&r);
            down = loss_of(&r);
            *x = was;
            double slope = (up - down) / (2 * h), limit = difference_tolerance * (1 + fabs(slope));
            if (!(fabs(slope - g) <= limit))
                fail_msg("%s: gradient %d at %lld is %.10g, differences say %.10g", c->name, i, (long long)p, g, slope);
        }
    }
    run_release(&r);
}

static void test_differences(void **state) {
    (void)state;
    for (int n = 0; n < op_case_count(); n++) {
        const op_case_t *c = op_case_at(n);
        if (op_has_other_type(c, &backend_ref_f64)) continue;
        for (uint32_t missing = 0; missing < (op_defs[c->op]->second ? 3u : 1u); missing++)
            check_differences(c, missing);
    }
}

static void test_ref_f32(void **state) {
    (void)state;
    for (int n = 0; n < op_case_count(); n++) check_case(op_case_at(n), &backend_ref_f32);
}

static void test_cpu(void **state) {
    (void)state;
    for (int n = 0; n < op_case_count(); n++) check_case(op_case_at(n), &backend_cpu);
}

static const backend_t *const backends[] = {&backend_ref_f32, &backend_ref_f64, &backend_cpu};

/* Sharing a buffer changes nothing. */
static void test_sharing(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++)
        for (int n = 0; n < op_case_count(); n++) {
            const op_case_t *c = op_case_at(n);
            const op_def_t *def = op_defs[c->op];
            run_options_t shared = {.gradients = ~0u, .inplace = true, .passthrough = true};
            run_t want, got;
            if (def->inplace < 0 && def->passthrough < 0) continue;
            run_make(&want, c, backends[b], &all);
            run_make(&got, c, backends[b], &shared);
            if (def->inplace >= 0 && c->in[def->inplace].kind)
                assert_ptr_equal(got.io.out[0].data, got.io.in[def->inplace].data);
            if (def->passthrough >= 0 && c->in[def->passthrough].kind)
                assert_ptr_equal(got.io.gin[def->passthrough].data, got.io.gout.data);
            check_same_run(&want, &got);
            run_release(&want);
            run_release(&got);
        }
}

/* One gradient at a time, with nothing at hand but what the op says it needs. */
static void test_needs(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++)
        for (int n = 0; n < op_case_count(); n++) {
            const op_case_t *c = op_case_at(n);
            run_t want, got;
            if (op_has_other_type(c, backends[b])) continue;
            run_make(&want, c, backends[b], &all);
            for (int i = 0; i < op_defs[c->op]->n_in; i++) {
                run_options_t one = {.gradients = 1u << i, .only_needed = true};
                if (!want.io.gin[i].data) continue;
                run_make(&got, c, backends[b], &one);
                check_same_run(&want, &got);
                run_release(&got);
            }
            run_release(&want);
        }
}

/* Made anew from what the op says, outputs have the bits they had. */
static void test_remake(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++)
        for (int n = 0; n < op_case_count(); n++) check_remake(op_case_at(n), backends[b], &all);
}

static void test_threads(void **state) {
    (void)state;
    int before = omp_get_max_threads();
    for (int n = 0; n < op_case_count(); n++) {
        run_t one, other;
        omp_set_num_threads(1);
        run_make(&one, op_case_at(n), &backend_cpu, &all);
        for (int threads = 2; threads <= 3; threads++) {
            omp_set_num_threads(threads);
            run_make(&other, op_case_at(n), &backend_cpu, &all);
            check_same_run(&one, &other);
            run_release(&other);
        }
        run_release(&one);
    }
    omp_set_num_threads(before);
}

/* Every op has a kernel in every backend and a case here; gradients exist exactly where the op promises them. */
static void test_tables(void **state) {
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        int cases = 0;
        for (int n = 0; n < op_case_count(); n++) cases += op_case_at(n)->op == (op_t)op;
        if (cases == 0) fail_msg("%s has no case", op_defs[op]->name);
        for (size_t b = 0; b < 3; b++) {
            assert_non_null(backends[b]->kernel[op].fwd);
            assert_int_equal(backends[b]->kernel[op].bwd != NULL, op_defs[op]->differentiable != 0);
        }
        assert_true(op_defs[op]->n_in <= OP_MAX_IN && op_defs[op]->n_out <= OP_MAX_OUT);
    }
}

/* Wrong shapes are named. */
static void test_shapes(void **state) {
    (void)state;
    for (int n = 0; n < op_case_count(); n++) {
        const op_case_t *c = op_case_at(n);
        const op_def_t *def = op_defs[c->op];
        run_t r;
        if (op_has_other_type(c, &backend_ref_f64)) continue;
        run_make(&r, c, &backend_ref_f64, &all);
        for (int i = 0; i < def->n_in; i++) {
            view_t out[OP_MAX_OUT] = {{0}}, was = r.io.in[i];
            if (!was.data) continue;
            r.io.in[i].rank = 3 - (was.rank == 3);
            r.io.in[i].dim[2] = 1;
            assert_int_equal(def->infer(c->attr, r.io.in, out), ST_INTERNAL);
            assert_non_null(strstr(st_message(), def->name));
            r.io.in[i] = was;
            r.io.in[i].dtype = was.dtype == DT_U64 ? DT_I32 : DT_U64;
            assert_int_equal(def->infer(c->attr, r.io.in, out), ST_INTERNAL);
            r.io.in[i] = was;
        }
        st_clear();
        run_release(&r);
    }
}

/* Memory is planned for the largest step, so fewer rows must never need more scratch. */
static void test_scratch(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++)
        for (int n = 0; n < op_case_count(); n++) {
            const op_kernel_t *kernel = &backends[b]->kernel[op_case_at(n)->op];
            run_t r;
            size_t last = 0;
            if (!kernel->scratch) continue;
            run_make(&r, op_case_at(n), backends[b], &all);
            op_io_t io = r.io;
            int64_t rows = io.in[0].dim[0];
            for (int64_t many = 0; many < 600; many++) {
                for (int i = 0; i < OP_MAX_IN; i++)
                    if (r.io.in[i].rank > 0 && r.io.in[i].dim[0] == rows) io.in[i].dim[0] = many;
                size_t bytes = kernel->scratch(&io);
                if (bytes < last)
                    fail_msg("%s: %lld rows need less scratch than fewer", op_case_at(n)->name, (long long)many);
                last = bytes;
            }
            run_release(&r);
        }
}

/* A number that is none must not vanish in a kernel that limits or compares: the check for it comes later. */
static void test_nan(void **state) {
    (void)state;
    for (int n = 0; n < op_case_count(); n++) {
        const op_case_t *c = op_case_at(n);
        run_t r;
        if (c->op == OP_ROPE_TABLE || c->op == OP_COLS || c->op == OP_EMBEDDING || c->in[0].dim[0] == 0) continue;
        run_make(&r, c, &backend_cpu, &all);
        for (int sign = -1; sign <= 1; sign += 2) {
            bool found = false;
            ((float *)r.io.in[0].data)[0] = copysignf(NAN, (float)sign);
            run_forward(&r);
            for (int64_t i = 0; i < view_count(&r.io.out[0]); i++) found = found || isnan(view_at(&r.io.out[0], i));
            if (!found && view_count(&r.io.out[0])) fail_msg("%s loses NaN", c->name);
        }
        run_release(&r);
    }
}

/* The share of kept elements is 1 - p within 4 standard deviations, and another step has another mask. */
static void test_dropout(void **state) {
    (void)state;
    const int64_t rows = 64, k = 96;
    const double p = 0.3;
    uint64_t index = 0, last = 0;
    int64_t kept[2] = {0}, equal = 0;
    for (int64_t n = 0; n < rows * k / 4; n++) {
        uint32_t word[2][4];
        index = lowrank_dropout_index((uint64_t)(n / (k / 4)), 3, n % (k / 4));
        if (n > 0 && index == last) fail_msg("two groups share a counter");
        last = index;
        for (int s = 0; s < 2; s++) rng_words(11, RNG_DROPOUT, (uint64_t)s, index, word[s]);
        for (int i = 0; i < 4; i++) {
            bool keep[2] = {(double)rng_unit(word[0][i]) >= p, (double)rng_unit(word[1][i]) >= p};
            kept[0] += keep[0];
            kept[1] += keep[1];
            equal += keep[0] == keep[1];
        }
    }
    double count = (double)(rows * k), deviation = sqrt(count * p * (1 - p));
    for (int s = 0; s < 2; s++) assert_true(fabs((double)kept[s] - count * (1 - p)) < 4 * deviation);
    double expected = count * (p * p + (1 - p) * (1 - p));
    assert_true(fabs((double)equal - expected) < 4 * sqrt(expected));
}

/* Known answers of Random123. */
static void test_philox(void **state) {
    (void)state;
    const uint32_t zero[4] = {0}, ones[4] = {~0u, ~0u, ~0u, ~0u};
    const uint32_t want0[4] = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
    const uint32_t want1[4] = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
    uint32_t out[4];
    philox4x32(zero, zero, out);
    assert_memory_equal(out, want0, sizeof out);
    philox4x32(ones, ones, out);
    assert_memory_equal(out, want1, sizeof out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_philox),      cmocka_unit_test(test_tables),  cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_differences), cmocka_unit_test(test_ref_f32), cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_sharing),     cmocka_unit_test(test_needs),   cmocka_unit_test(test_threads),
        cmocka_unit_test(test_remake),      cmocka_unit_test(test_scratch), cmocka_unit_test(test_nan),
        cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
