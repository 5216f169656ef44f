/* Steps on a device are filled up with rows that belong to nothing, so that few sizes of step are there: rows behind
 * the last sequence, empty sequences, loss rows of weight 0. CUDA's kernels, run on the host, must compute as if those
 * rows were not there; what they write for such rows is 0 where it is added up later, and finite elsewhere. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "kernels/cuda.h"
#include "kernels/device.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/routed_linear.h"
#include "kernels/ops/value_weight.h"
#include "tests/op/case_macros.h"
#include "tests/op/common_check.h"

#define WD(a, data)                                                                                                    \
    { 'w', 1, {a, 0, 0}, data }
#define OUT(k)  (1u << (k))
#define GRAD(k) (1u << (16 + (k)))

/* The same rows, alone and with others behind them. */
typedef struct padded {
    op_case_t alone, filled;
    uint32_t finite; /* OUT and GRAD of what may be any number in the added rows; 0 elsewhere */
} padded_t;

static device_t device = {.name = "host"};

static const attention_attr_t small = {3, 1, 5, 0.7}, many = {4, 2, 8, 0.35}, head64 = {2, 1, 64, 0.125},
                              head128 = {2, 1, 128, 0.09};
static const int32_t cu[] = {0, 3, 3, 9, 9, 9, 9}, prefix[] = {0, 2, 2, 5, 5, 5, 5};
static const int32_t cu_long[] = {0, 150, 151, 280, 280}, prefix_long[] = {0, 70, 70, 100, 100};
static const int32_t cu_even[] = {0, 70, 100, 100, 100}, prefix_even[] = {0, 8, 24, 24, 24};

static const int32_t targets[160] = {0, 10, 4, 4, 7, 1, 2, 9, 10, 3, 5}, zeros[160];
static const float weights[16] = {1, -1, 0.5f, -0.25f, 0, -2, 1, 0.1f, 3, -1, -1};
static const float long_weights[160] = {1, -1, 0.5f, [64] = 2, [127] = 1, [128] = -1, [129] = 1};
static const float rewards[96] = {-0.5f, 0, -1, -0.001f, -3, -0.25f, 2}, row_weights[96] = {1, 0.5f, 0, 2, 1, 1, 3};
static const value_weight_attr_t half = {0.5, 1};
static const routed_linear_attr_t two = {2};
static const int32_t cu_routed[] = {0, 64, 65, 100, 100, 100}, expert[] = {1, 0, 1, 0, 0};

#define ATTENTION(attr, n, more, q, kv, s, filled_s, c)                                                                \
    {                                                                                                                  \
        CASE(OP_ATTENTION, attr, "attention", false, R2(n, q), R2(n, kv), R2(n, kv), I1(s + 1, c)),                    \
            CASE(OP_ATTENTION, attr, "attention, padded", false, R2(more, q), R2(more, kv), R2(more, kv),              \
                 I1(filled_s + 1, c)),                                                                                 \
            0                                                                                                          \
    }
#define WITH_PREFIX(attr, n, more, q, kv, s, filled_s, c, p, cp)                                                       \
    {                                                                                                                  \
        CASE(OP_ATTENTION, attr, "attention, prefix", false, R2(n, q), R2(n, kv), R2(n, kv), I1(s + 1, c), R2(p, kv),  \
             R2(p, kv), I1(s + 1, cp)),                                                                                \
            CASE(OP_ATTENTION, attr, "attention, prefix, padded", false, R2(more, q), R2(more, kv), R2(more, kv),      \
                 I1(filled_s + 1, c), R2(p, kv), R2(p, kv), I1(filled_s + 1, cp)),                                     \
            0                                                                                                          \
    }
#define LOSS(n, more, d, v, w)                                                                                         \
    {                                                                                                                  \
        CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "loss", false, R2(n, d), R2(v, d), I1(n, n < 20 ? targets : zeros),        \
             WD(n, w)),                                                                                                \
            CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "loss, padded", false, R2(more, d), R2(v, d),                          \
                 I1(more, n < 20 ? targets : zeros), WD(more, w)),                                                     \
            OUT(LCE_NLL)                                                                                               \
    }
#define VALUE(n, more, d)                                                                                              \
    {                                                                                                                  \
        CASE(OP_VALUE_WEIGHT, &half, "value", false, R2(n, d), R1(d), WD(n, rewards), WD(n, row_weights)),             \
            CASE(OP_VALUE_WEIGHT, &half, "value, padded", false, R2(more, d), R1(d), WD(more, rewards),                \
                 WD(more, row_weights)),                                                                               \
            OUT(VALUE_WEIGHT_VALUE)                                                                                    \
    }
#define ROUTED(n, more, k, m, s, filled_s)                                                                             \
    {                                                                                                                  \
        CASE(OP_ROUTED_LINEAR, &two, "routed_linear", false, R2(n, k), R2(m, k), R1(m), I1(s + 1, cu_routed),          \
             I1(s, expert)),                                                                                           \
            CASE(OP_ROUTED_LINEAR, &two, "routed_linear, padded", false, R2(more, k), R2(m, k), R1(m),                 \
                 I1(filled_s + 1, cu_routed), I1(filled_s, expert)),                                                   \
            OUT(0) | GRAD(ROUTED_LINEAR_X)                                                                             \
    }

static const padded_t rows[] = {
    ATTENTION(&small, 9, 16, 15, 5, 3, 6, cu),
    ATTENTION(&many, 280, 330, 32, 16, 3, 4, cu_long),
    ATTENTION(&head64, 100, 160, 128, 64, 2, 4, cu_even),
    ATTENTION(&head128, 100, 160, 256, 128, 2, 4, cu_even),
    WITH_PREFIX(&small, 9, 16, 15, 5, 3, 6, cu, 5, prefix),
    WITH_PREFIX(&many, 280, 330, 32, 16, 3, 4, cu_long, 100, prefix_long),
    WITH_PREFIX(&head64, 100, 160, 128, 64, 2, 4, cu_even, 24, prefix_even),
    WITH_PREFIX(&head128, 100, 160, 256, 128, 2, 4, cu_even, 24, prefix_even),
    LOSS(11, 16, 6, 11, weights),
    LOSS(130, 160, 19, 300, long_weights),
    LOSS(130, 160, 64, 264, long_weights),
    VALUE(7, 16, 5),
    VALUE(7, 96, 64),
    ROUTED(100, 128, 64, 128, 3, 5),
    ROUTED(65, 100, 7, 6, 2, 2),
};

/* The first numbers of got are want's, the others 0 or at least finite. */
static void check_part(const padded_t *p, const char *what, int place, const view_t *got, const view_t *want,
                       double limit, bool finite) {
    const op_case_t *c = &p->filled;
    double scale = 0.01;
    if ((got->data == NULL) != (want->data == NULL)) fail_msg("%s: %s %d is missing", c->name, what, place);
    if (!got->data) return;
    for (int64_t i = 0; i < view_count(want); i++) scale = fmax(scale, fabs(view_at(want, i)));
    for (int64_t i = 0; i < view_count(got); i++) {
        double g = view_at(got, i);
        if (!isfinite(g)) fail_msg("%s: %s %d has %g at %lld", c->name, what, place, g, (long long)i);
        if (i >= view_count(want)) {
            if (!finite && g != 0) fail_msg("%s: %s %d has %g in a row of nothing", c->name, what, place, g);
        } else if (fabs(g - view_at(want, i)) > limit * scale)
            fail_msg("%s: %s %d is %.6g at %lld, not %.6g", c->name, what, place, g, (long long)i, view_at(want, i));
    }
}

static void check_padded(const padded_t *p, const backend_t *backend, dtypes_t types) {
    run_options_t options = {.types = types, .gradients = ~0u};
    double limit = types.real == DT_BF16 ? CHECK_BF16_PER_MILLE * 1e-3 : check_limit_float[p->alone.op];
    run_t want, got;
    run_make(&want, &p->alone, &backend_ref_f64, &options);
    options.device = &device;
    run_make(&got, &p->filled, backend, &options);
    for (int o = 0; o < op_defs[p->alone.op]->n_out; o++)
        check_part(p, "output", o, &got.io.out[o], &want.io.out[o], limit, p->finite & OUT(o));
    for (int i = 0; i < op_defs[p->alone.op]->n_in; i++)
        check_part(p, "gradient", i, &got.io.gin[i], &want.io.gin[i], limit, p->finite & GRAD(i));
    run_release(&want);
    run_release(&got);
}

static void check_all(const backend_t *backend, dtypes_t types) {
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
#ifdef GRAFT_SANITIZE
        if (rows[n].filled.in[0].dim[0] > 100) continue; /* slow, and the same code as the small ones */
#endif
        check_padded(&rows[n], backend, types);
    }
}

static void test_float(void **state) {
    (void)state;
    check_all(&backend_cuda_f32, (dtypes_t){DT_F32, DT_F32});
}

static void test_bfloat16(void **state) {
    (void)state;
    check_all(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_F32});
    check_all(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_BF16});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_bfloat16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
