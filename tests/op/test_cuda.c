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

enum { LARGE = 13000 };

/* What does not depend on the size is checked on the other cases alone. */
static bool is_large(const op_case_t *c) {
    for (int i = 0; i < OP_MAX_IN; i++) {
        int64_t count = 1;
        for (int a = 0; a < c->in[i].rank; a++) count *= c->in[i].dim[a];
        if (count > LARGE) return true;
    }
    return false;
}

/* Rows against rows so many that one run takes seconds; smaller cases have several tiles on a device, too. */
static bool is_heavy(const op_case_t *c) {
    return c->in[0].rank == 2 && c->in[1].rank == 2 && c->in[0].dim[0] * c->in[1].dim[0] > 150000;
}

/* Sharing a buffer changes nothing. */
static void check_sharing(const run_t *want, const run_options_t *plain) {
    const op_def_t *def = op_defs[want->c->op];
    run_options_t shared = *plain;
    run_t got;
    shared.inplace = shared.passthrough = true;
    if (def->inplace < 0 && def->passthrough < 0) return;
    run_make(&got, want->c, want->backend, &shared);
    check_same_run(want, &got);
    run_release(&got);
}

/* One gradient at a time, with nothing at hand but what the op says it needs. */
static void check_needs(const run_t *want, const run_options_t *plain) {
    run_options_t one = *plain;
    one.only_needed = true;
    if (is_large(want->c)) return;
    for (int i = 0; i < op_defs[want->c->op]->n_in; i++) {
        run_t got;
        if (!want->io.gin[i].data) continue;
        one.gradients = 1u << i;
        run_make(&got, want->c, want->backend, &one);
        check_same_run(want, &got);
        run_release(&got);
    }
}

/* Memory is planned for the largest step, so fewer rows must never need more scratch. */
static void check_scratch(const run_t *r) {
    const op_kernel_t *kernel = &r->backend->kernel[r->c->op];
    op_io_t io = r->io;
    int64_t rows = io.in[0].dim[0];
    size_t last = 0;
    for (int64_t many = 0; kernel->scratch && many < 600; many++) {
        for (int i = 0; i < OP_MAX_IN; i++)
            if (r->io.in[i].rank > 0 && r->io.in[i].dim[0] == rows) io.in[i].dim[0] = many;
        size_t bytes = kernel->scratch(&io);
        if (bytes < last) fail_msg("%s: %lld rows need less scratch than fewer", r->c->name, (long long)many);
        last = bytes;
    }
}

/* A number that is none must not vanish in a kernel that limits or compares. Changes the input. */
static void check_nan(run_t *r) {
    op_t op = r->c->op;
    bool found = false;
    if (op == OP_ROPE_TABLE || op == OP_COLS || op == OP_EMBEDDING || r->c->in[0].dim[0] == 0) return;
    if (is_large(r->c)) return;
    view_put(&r->io.in[0], 0, NAN);
    run_forward(r);
    for (int64_t i = 0; i < view_count(&r->io.out[0]); i++) found = found || isnan(view_at(&r->io.out[0], i));
    if (!found && view_count(&r->io.out[0])) fail_msg("%s loses NaN", r->c->name);
}

/* Runs on three threads, whose blocks come in any order, are compared with one on one thread. */
static void check_op(const op_case_t *c, const backend_t *backend, dtypes_t types) {
    run_options_t plain = {.types = types, .device = &device, .gradients = ~0u};
    int before = omp_get_max_threads();
    run_t one;
    omp_set_num_threads(1);
    run_make(&one, c, backend, &plain);
    omp_set_num_threads(3);
#ifndef GRAFT_SANITIZE /* equal bits are a matter of the plain build; there are enough runs for the sanitizer */
    run_t again;
    run_make(&again, c, backend, &plain);
    check_same_run(&one, &again);
    run_release(&again);
#endif
    check_run(&one, types);
    check_sharing(&one, &plain);
    check_needs(&one, &plain);
    if (!is_large(c)) check_remake(c, backend, &plain);
    check_scratch(&one);
    check_nan(&one);
    omp_set_num_threads(before);
    run_release(&one);
}

/* GRAFT_TEST_OP=rmsnorm picks one op. */
static void check_all(const backend_t *backend, dtypes_t types) {
    const char *only = getenv("GRAFT_TEST_OP");
    for (int n = 0; n < op_case_count(); n++) {
        const op_case_t *c = op_case_at(n);
        if (only && strcmp(only, op_defs[c->op]->name) != 0) continue;
        if (is_heavy(c)) continue;
#ifdef GRAFT_SANITIZE
        if (is_large(c)) continue; /* minutes, and the same code as the small ones */
#endif
        if (run_is_legal(c, backend, types)) check_op(c, backend, types);
    }
}

static void test_float(void **state) {
    (void)state;
    check_all(&backend_cuda_f32, (dtypes_t){DT_F32, DT_F32});
}

static void test_bf16_trained(void **state) {
    (void)state;
    check_all(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_F32});
}

static void test_bf16_frozen(void **state) {
    (void)state;
    check_all(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_BF16});
}

static void test_tables(void **state) {
    (void)state;
    for (int op = 0; op < OP_COUNT; op++) {
        const op_kernel_t *one = &backend_cuda_f32.kernel[op], *other = &backend_cuda_bf16.kernel[op];
        if (!one->fwd) fail_msg("%s has no CUDA kernel", op_defs[op]->name);
        assert_ptr_equal(one->fwd, other->fwd);
        assert_int_equal(one->bwd != NULL, op_defs[op]->differentiable != 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_bf16_trained),
        cmocka_unit_test(test_bf16_frozen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
