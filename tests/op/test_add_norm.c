/* add_rmsnorm and add_layernorm are `add` and the norm to the last bit, on every backend: forward and backward, with a
 * gradient at both outputs or at one, added to or not, in the residual's own memory or not. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda.h"
#include "kernels/device.h"
#include "kernels/ops/add_norm.h"
#include "tests/op/common_check.h"

static device_t device = {.name = "host"};

static op_t norm_within(op_t op) {
    return op == OP_ADD_RMSNORM ? OP_RMSNORM : op == OP_ADD_LAYERNORM ? OP_LAYERNORM : OP_COUNT;
}

/* Memory for a view; a gradient that is added to has its start in it, all else NaN. */
static view_t fresh(const view_t *like, bool started) {
    view_t v = *like;
    v.data = malloc(view_bytes(&v) + 1);
    assert_non_null(v.data);
    memset(v.data, 0xff, view_bytes(&v));
    for (int64_t i = 0; started && i < view_count(&v); i++) view_put(&v, i, run_start_value(i));
    return v;
}

/* What the two ops make of the inputs and gradients of `run`, which is of no shared memory. */
static void two_ops(const run_t *run, op_io_t *want) {
    const op_t norm_op = norm_within(run->c->op);
    const op_kernel_t *add = &run->backend->kernel[OP_ADD], *norm = &run->backend->kernel[norm_op];
    const int n_in = op_defs[run->c->op]->n_in;
    *want = run->io;
    for (int o = 0; o < OP_MAX_OUT; o++) want->out[o] = fresh(&run->io.out[o], false);
    for (int i = 0; i < n_in; i++)
        if (want->gin[i].data) want->gin[i] = fresh(&run->io.gin[i], run->io.acc[i]);
    op_io_t inner = add_norm_inner(want);
    want->scratch = inner.scratch = norm->scratch ? malloc(norm->scratch(&inner) + 1) : NULL;
    add->fwd(want);
    norm->fwd(&inner);
    view_t ds = fresh(&want->out[0], false);
    if (want->gout.data) memcpy(ds.data, want->gout.data, view_bytes(&ds));
    inner.gin[0].data = ds.data;
    inner.acc[0] = want->gout.data != NULL;
    if (want->gout1.data) norm->bwd(&inner);
    for (int i = ADD_NORM_B + 1; !want->gout1.data && i < n_in; i++) /* nothing arrived */
        for (int64_t k = 0; want->gin[i].data && !want->acc[i] && k < view_count(&want->gin[i]); k++)
            view_put(&want->gin[i], k, 0);
    want->gout = ds;
    add->bwd(want);
}

static void release(const run_t *run, op_io_t *want) {
    for (int o = 0; o < OP_MAX_OUT; o++) free(want->out[o].data);
    for (int i = 0; i < op_defs[run->c->op]->n_in; i++) free(want->gin[i].data);
    free(want->gout.data);
    free(want->scratch);
}

/* Runs once more, with a branch so much smaller than the residual that sums of bfloat16 are rounded. What the first run
 * wrote over is as it was in `whole`, a run of the same case without shared memory. */
static void run_again(run_t *r, const run_t *whole) {
    const int n_in = op_defs[r->c->op]->n_in;
    view_t *b = &r->io.in[ADD_NORM_B];
    if (r != whole) {
        memcpy(r->io.in[ADD_NORM_A].data, whole->io.in[ADD_NORM_A].data, view_bytes(&r->io.in[ADD_NORM_A]));
        if (r->io.gout.data) memcpy(r->io.gout.data, whole->io.gout.data, view_bytes(&r->io.gout));
    }
    for (int64_t i = 0; i < view_count(b); i++) view_put(b, i, 0.3 * view_at(b, i));
    for (int i = 0; i < n_in; i++)
        for (int64_t k = 0; r->io.acc[i] && k < view_count(&r->io.gin[i]); k++)
            view_put(&r->io.gin[i], k, run_start_value(k));
    run_forward(r);
    r->backend->kernel[r->c->op].bwd(&r->io);
}

static void check_two_ops(const op_case_t *c, const backend_t *backend, run_options_t options) {
    run_t apart, shared;
    op_io_t want;
    run_make(&apart, c, backend, &options);
    options.inplace = options.passthrough = true;
    run_make(&shared, c, backend, &options);
    run_again(&apart, &apart);
    run_again(&shared, &apart);
    two_ops(&apart, &want);
    for (int o = 0; o < OP_MAX_OUT; o++) {
        check_same_bits(c, "output", o, &apart.io.out[o], &want.out[o]);
        check_same_bits(c, "output in place", o, &shared.io.out[o], &want.out[o]);
    }
    for (int i = 0; i < OP_MAX_IN; i++) {
        if (apart.io.gin[i].data) assert_non_null(want.gin[i].data);
        check_same_bits(c, "gradient", i, &apart.io.gin[i], &want.gin[i]);
        if (shared.io.acc[i] == apart.io.acc[i])
            check_same_bits(c, "gradient in place", i, &shared.io.gin[i], &want.gin[i]);
    }
    release(&apart, &want);
    run_release(&apart);
    run_release(&shared);
}

/* Which gradients: all, the residual's, the branch's, the weight's. */
static const uint32_t gradients[] = {~0u, 1u << ADD_NORM_A, 1u << ADD_NORM_B, 1u << (ADD_NORM_B + 1)};

static void check_backend(const backend_t *backend, dtypes_t types) {
    int checked = 0;
    for (int n = 0; n < op_case_count(); n++) {
        const op_case_t *c = op_case_at(n);
        if (norm_within(c->op) == OP_COUNT) continue;
        if (!run_is_legal(c, backend, types)) continue;
        for (uint32_t k = 0; k < 4 * 3 * 2; k++) {
            check_two_ops(c, backend,
                          (run_options_t){.types = types,
                                          .device = backend->on_device ? &device : NULL,
                                          .gradients = gradients[k % 4],
                                          .missing = k / 4 % 3,
                                          .acc = k / 12});
            checked++;
        }
    }
    assert_true(checked > 0);
}

static void test_host(void **state) {
    (void)state;
    static const backend_t *const backends[] = {&backend_ref_f32, &backend_ref_f64, &backend_cpu};
    for (int b = 0; b < 3; b++) check_backend(backends[b], (dtypes_t){DT_F32, DT_F32});
}

static void test_cuda(void **state) {
    (void)state;
    check_backend(&backend_cuda_f32, (dtypes_t){DT_F32, DT_F32});
    check_backend(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_F32});
    check_backend(&backend_cuda_bf16, (dtypes_t){DT_BF16, DT_BF16});
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_cuda),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
