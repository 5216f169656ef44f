/* Attention's CUDA kernels with tensor cores, run on the host (tests/cuda_on_host): every head size they have,
 * sequences whose lengths lie around the sizes of tiles, empty ones, prefixes, shared key heads, rows that belong to no
 * sequence. docs/numerics.md gives the limits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include "kernels/cuda.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "tests/op/case_macros.h"
#include "tests/op/common_check.h"

static device_t device = {.name = "host"};

enum { SEQUENCES = 10, TOKENS = 371, ROWS = TOKENS + 9, PREFIX = 70 + 20 + 1 + 20 + 1, PREFIX_ROWS = PREFIX + 3 };
static const int32_t cu[SEQUENCES + 1] = {0, 1, 16, 32, 32, 49, 112, 176, 241, TOKENS, TOKENS};
static const int32_t cu_prefix[SEQUENCES + 1] = {0, 1, 21, 21, 22, 22, 92, 92, 112, 112, PREFIX};
/* One sequence longer than the tiles of all kernels, with a prefix of its own. */
enum { LONG = 200, LONG_PREFIX = 50 };
static const int32_t cu_long[] = {0, LONG}, cu_long_prefix[] = {0, LONG_PREFIX};

#define ATTR(dim, heads, kv_heads)                                                                                     \
    { heads, kv_heads, dim, 1.2 / sqrt_##dim }
#define sqrt_16  4.0
#define sqrt_32  5.65685424949238
#define sqrt_64  8.0
#define sqrt_96  9.79795897113271
#define sqrt_128 11.3137084989848
static const attention_attr_t attr_16 = ATTR(16, 4, 1), attr_32 = ATTR(32, 4, 2), attr_64 = ATTR(64, 4, 1),
                              attr_96 = ATTR(96, 1, 1), attr_128 = ATTR(128, 2, 1);

#define PLAIN(dim, heads, kv_heads)                                                                                    \
    CASE(OP_ATTENTION, &attr_##dim, "attention, head size " #dim, false, R2(ROWS, heads *dim),                         \
         R2(ROWS, kv_heads *dim), R2(ROWS, kv_heads *dim), I1(SEQUENCES + 1, cu))
#define PREFIXED(dim, heads, kv_heads)                                                                                 \
    CASE(OP_ATTENTION, &attr_##dim, "attention with prefixes, head size " #dim, false, R2(ROWS, heads *dim),           \
         R2(ROWS, kv_heads *dim), R2(ROWS, kv_heads *dim), I1(SEQUENCES + 1, cu), R2(PREFIX_ROWS, kv_heads *dim),      \
         R2(PREFIX_ROWS, kv_heads *dim), I1(SEQUENCES + 1, cu_prefix))
#define ONE(dim, heads, kv_heads)                                                                                      \
    CASE(OP_ATTENTION, &attr_##dim, "attention of one sequence, head size " #dim, false, R2(LONG, heads *dim),         \
         R2(LONG, kv_heads *dim), R2(LONG, kv_heads *dim), I1(2, cu_long), R2(LONG_PREFIX, kv_heads *dim),             \
         R2(LONG_PREFIX, kv_heads *dim), I1(2, cu_long_prefix))

/* Places enough for several parts, of which the second sequence leaves most without any. */
static const attention_cached_attr_t cached = {2, 1, 64, 1500, 0.15};
static const int32_t cu_cached[] = {0, 1, 1, 2}, past[] = {1400, 20, 1};
static const op_case_t in_parts =
    CASE(OP_ATTENTION_CACHED, &cached, "attention_cached, several parts", false, R2(2, 128), R2(2, 64), R2(2, 64),
         I1(4, cu_cached), I1(3, past), R3(2, 4500, 64));

static const op_case_t packed[] = {PLAIN(16, 4, 1),    PREFIXED(16, 4, 1), PREFIXED(32, 4, 2),
                                   PREFIXED(64, 4, 1), ONE(96, 1, 1),      ONE(128, 2, 1)};
enum { CASES = sizeof packed / sizeof *packed };

/* The reference leaves rows of no sequence alone; on a device they are 0. */
static void zero_behind(const view_t *v, int64_t row) {
    if (!v->data || v->rank != 2) return;
    for (int64_t i = row * v->dim[1]; i < view_count(v); i++) view_put(v, i, 0);
}

static int64_t last(const view_t *ends) {
    return ((const int32_t *)ends->data)[ends->dim[0] - 1];
}

static run_options_t options_of(dtypes_t types, bool acc) {
    return (run_options_t){.types = types, .device = &device, .gradients = ~0u, .acc = acc};
}

static void check(const op_case_t *c, const backend_t *backend, dtypes_t types, double limit) {
    run_options_t plain = {.types = types, .gradients = ~0u};
    run_t want, got;
    run_make(&want, c, &backend_ref_f64, &plain);
    int64_t rows = last(&want.io.in[ATTENTION_CU]);
    zero_behind(&want.io.out[ATTENTION_O], rows);
    zero_behind(&want.io.out[ATTENTION_LSE], rows);
    zero_behind(&want.io.gin[ATTENTION_Q], rows);
    for (int acc = 0; acc < 2; acc++) {
        run_options_t options = options_of(types, acc);
        run_make(&got, c, backend, &options);
        for (int o = 0; o < 2; o++) check_close(c, "output", o, &got.io.out[o], &want.io.out[o], limit, false);
        for (int i = 0; i < OP_MAX_IN; i++)
            check_close(c, acc ? "added gradient" : "gradient", i, &got.io.gin[i], &want.io.gin[i], limit, acc);
        if (!acc)
            for (int64_t i = rows * got.io.out[0].dim[1]; i < view_count(&got.io.out[0]); i++)
                assert_true(view_at(&got.io.out[0], i) == 0 && view_at(&got.io.gin[0], i) == 0);
        run_release(&got);
    }
    run_release(&want);
}

static const double limit_bf16 = CHECK_BF16_PER_MILLE * 1e-3;

static void test_bf16(void **state) {
    (void)state;
    for (int n = 0; n < CASES; n++) check(&packed[n], &backend_cuda_bf16, (dtypes_t){DT_BF16, DT_BF16}, limit_bf16);
}

/* Trained prefixes stay float. */
static void test_float_prefix(void **state) {
    (void)state;
    for (int n = 1; n < CASES; n += 2) check(&packed[n], &backend_cuda_bf16, (dtypes_t){DT_BF16, DT_F32}, limit_bf16);
}

static void test_float(void **state) {
    (void)state;
    check(&packed[1], &backend_cuda_f32, (dtypes_t){DT_F32, DT_F32}, check_limit_float[OP_ATTENTION]);
}

/* The same bits twice, and each gradient alone with everything hidden that it has no right to read. */
static void test_alone(void **state) {
    (void)state;
    const dtypes_t types = {DT_BF16, DT_F32};
    for (int n = 1; n < 3; n++) {
        run_options_t options = options_of(types, false);
        run_t want, got;
        run_make(&want, &packed[n], &backend_cuda_bf16, &options);
        run_make(&got, &packed[n], &backend_cuda_bf16, &options);
        check_same_run(&want, &got);
        run_release(&got);
        options.only_needed = true;
        for (int i = 0; i < OP_MAX_IN; i++) {
            if (!want.io.gin[i].data) continue;
            options.gradients = 1u << i;
            run_make(&got, &packed[n], &backend_cuda_bf16, &options);
            check_same_run(&want, &got);
            run_release(&got);
        }
        run_release(&want);
    }
}

static void test_cached_in_parts(void **state) {
    (void)state;
    const backend_t *const backends[] = {&backend_cuda_f32, &backend_cuda_bf16};
    for (int b = 0; b < 2; b++) {
        run_options_t options = options_of((dtypes_t){backends[b]->real, backends[b]->real}, false);
        run_t got;
        run_make(&got, &in_parts, backends[b], &options);
        check_run(&got, options.types);
        run_release(&got);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bf16),  cmocka_unit_test(test_float_prefix),    cmocka_unit_test(test_float),
        cmocka_unit_test(test_alone), cmocka_unit_test(test_cached_in_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
