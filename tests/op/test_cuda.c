/* The CUDA kernels, run on the host (tests/cuda_on_host), on every case: float and bfloat16 with float or bfloat16
 * parameters against the double reference, sharing of buffers, what backward may read, equal bits. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda.h"
#include "kernels/device.h"
#include "tests/op/common_check.h"

/* All work is done at once on the host, so the harness's memory is the device's. */
static device_t device = {.name = "host"};

static const struct {
    const backend_t *backend;
    dtypes_t types;
} kinds[] = {{&backend_cuda_f32, {DT_F32, DT_F32}},
             {&backend_cuda_bf16, {DT_BF16, DT_F32}},
             {&backend_cuda_bf16, {DT_BF16, DT_BF16}}};
enum { KINDS = sizeof kinds / sizeof *kinds };

static bool is_there(const op_case_t *c) {
    return backend_cuda_f32.kernel[c->op].fwd != NULL;
}

/* Every case of every kind; GRAFT_TEST_OP=rmsnorm picks one op. */
static void for_all(void (*check)(const op_case_t *c, const backend_t *backend, dtypes_t types)) {
    const char *only = getenv("GRAFT_TEST_OP");
    for (int k = 0; k < KINDS; k++)
        for (int n = 0; n < op_case_count(); n++) {
            const op_case_t *c = op_case_at(n);
            if (only && strcmp(only, op_defs[c->op]->name) != 0) continue;
            if (is_there(c) && run_is_legal(c, kinds[k].backend, kinds[k].types))
                check(c, kinds[k].backend, kinds[k].types);
        }
}

static void close_to_reference(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    check_case(c, &device, backend, types);
}

static void test_reference(void **state) {
    (void)state;
    for_all(close_to_reference);
}

static void same_shared(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    const op_def_t *def = op_defs[c->op];
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u}, shared = plain;
    run_t want, got;
    shared.inplace = shared.passthrough = true;
    if (def->inplace < 0 && def->passthrough < 0) return;
    run_make(&want, c, backend, &plain);
    run_make(&got, c, backend, &shared);
    check_same_run(&want, &got);
    run_release(&want);
    run_release(&got);
}

static void test_sharing(void **state) {
    (void)state;
    for_all(same_shared);
}

/* One gradient at a time, with nothing at hand but what the op says it needs. */
static void same_alone(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u};
    run_t want, got;
    run_make(&want, c, backend, &plain);
    for (int i = 0; i < op_defs[c->op]->n_in; i++) {
        run_options_t one = {.types = types, .device = &device, .gradients = 1u << i, .only_needed = true};
        if (!want.io.gin[i].data) continue;
        run_make(&got, c, backend, &one);
        check_same_run(&want, &got);
        run_release(&got);
    }
    run_release(&want);
}

static void test_needs(void **state) {
    (void)state;
    for_all(same_alone);
}

/* Blocks in any order, on any number of threads. */
static void same_again(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u};
    int before = omp_get_max_threads();
    run_t want, got;
    omp_set_num_threads(1);
    run_make(&want, c, backend, &plain);
    omp_set_num_threads(3);
    run_make(&got, c, backend, &plain);
    omp_set_num_threads(before);
    check_same_run(&want, &got);
    run_release(&got);
    run_release(&want);
}

static void test_bits(void **state) {
    (void)state;
    for_all(same_again);
}

static void test_tables(void **state) {
    (void)state;
    int missing = 0;
    for (int op = 0; op < OP_COUNT; op++) {
        const op_kernel_t *one = &backend_cuda_f32.kernel[op], *other = &backend_cuda_bf16.kernel[op];
        if (!one->fwd) {
            missing++;
            print_message("%s has no CUDA kernel\n", op_defs[op]->name);
            continue;
        }
        assert_ptr_equal(one->fwd, other->fwd);
        assert_int_equal(one->bwd != NULL, op_defs[op]->differentiable != 0);
    }
    if (missing) print_message("%d of %d ops have no CUDA kernel\n", missing, (int)OP_COUNT);
}

/* Memory is planned for the largest step, so fewer rows must never need more scratch. */
static void grows(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u};
    const op_kernel_t *kernel = &backend->kernel[c->op];
    run_t r;
    size_t last = 0;
    if (!kernel->scratch) return;
    run_make(&r, c, backend, &plain);
    op_io_t io = r.io;
    int64_t rows = io.in[0].dim[0];
    for (int64_t many = 0; many < 600; many++) {
        for (int i = 0; i < OP_MAX_IN; i++)
            if (r.io.in[i].rank > 0 && r.io.in[i].dim[0] == rows) io.in[i].dim[0] = many;
        size_t bytes = kernel->scratch(&io);
        if (bytes < last) fail_msg("%s: %lld rows need less scratch than fewer", c->name, (long long)many);
        last = bytes;
    }
    run_release(&r);
}

static void test_scratch(void **state) {
    (void)state;
    for_all(grows);
}

/* A number that is none must not vanish in a kernel that limits or compares. */
static void keeps_nan(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u};
    run_t r;
    if (c->op == OP_ROPE_TABLE || c->op == OP_COLS || c->op == OP_EMBEDDING || c->in[0].dim[0] == 0) return;
    run_make(&r, c, backend, &plain);
    bool found = false;
    view_put(&r.io.in[0], 0, NAN);
    run_forward(&r);
    for (int64_t i = 0; i < view_count(&r.io.out[0]); i++) found = found || isnan(view_at(&r.io.out[0], i));
    if (!found && view_count(&r.io.out[0])) fail_msg("%s loses NaN", c->name);
    run_release(&r);
}

static void test_nan(void **state) {
    (void)state;
    for_all(keeps_nan);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables), cmocka_unit_test(test_reference), cmocka_unit_test(test_sharing),
        cmocka_unit_test(test_needs),  cmocka_unit_test(test_bits),      cmocka_unit_test(test_scratch),
        cmocka_unit_test(test_nan),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
