/* The fast reduction in buckets: backward in parts has the bits of one pass, and every bucket is handed to the
 * communicator when it is complete and the rest of the gradient is not. On the CPU, and on a device (the host with
 * CUDA's kernels), where parts are recorded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common_net.h"
#include "tests/common/device_group.h"
#include "train/comm/comm_data_impl.h"
#include "train/run/buckets.h"

static const tape_sizes_t room = {24, 20, 1, 0};
enum { ROUNDS = 3 }; /* op by op, recorded, launched */

/* A communicator that looks at what it is given. */
typedef struct spy {
    comm_data_t base; /* first */
    const net_t *net;
    const float *want; /* the whole gradient */
    float *seen;
    char *covered;
    int calls, early; /* early: while another part of the gradient was not complete */
    bool joined;
} spy_t;

static void look(spy_t *s, int64_t at, int64_t n) {
    const int64_t all = s->net->params.n_trainable;
    device_download(s->base.device, s->seen, s->base.device ? s->net->params.device_grad : s->net->params.grad,
                    (size_t)all * sizeof *s->seen);
    assert_int_equal(device_sync(s->base.device, "gradients"), ST_OK);
    assert_true(n > 0 && at >= 0 && at + n <= all);
    assert_memory_equal(s->seen + at, s->want + at, (size_t)n * sizeof *s->seen);
    for (int64_t i = at; i < at + n; i++) {
        assert_int_equal(s->covered[i], 0);
        s->covered[i] = 1;
    }
    s->calls++;
    s->early += memcmp(s->seen, s->want, (size_t)all * sizeof *s->seen) != 0;
}

static void spy_allreduce(comm_data_t *d, float *v, int64_t n) {
    spy_t *s = (spy_t *)d;
    look(s, v - (float *)(d->device ? s->net->params.device_grad : s->net->params.grad), n);
}

static void spy_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count) {
    spy_t *s = (spy_t *)d;
    assert_ptr_equal(v, d->device ? s->net->params.device_grad : s->net->params.grad);
    assert_int_equal(n, s->net->params.n_trainable);
    look(s, at, count);
}

static void spy_join(comm_data_t *d) {
    spy_t *s = (spy_t *)d;
    for (int64_t i = 0; i < s->net->params.n_trainable; i++) assert_int_equal(s->covered[i], 1);
    s->joined = true;
}

static const comm_data_ops_t whole = {.name = "spy", .allreduce = spy_allreduce, .join = spy_join},
                             shares = {.name = "spy", .reduce_scatter = spy_scatter, .join = spy_join};

/* One pass in parts. */
static void reduce(net_t *n, const buckets_t *b, const float *want, bool share, spy_t *s) {
    const size_t bytes = (size_t)n->params.n_trainable * sizeof(float);
    float *grad = n->params.device ? n->params.device_grad : n->params.grad;
    *s = (spy_t){.base = {.ops = share ? &shares : &whole, .device = n->params.device}, .net = n, .want = want};
    s->seen = malloc(bytes);
    s->covered = calloc((size_t)n->params.n_trainable, 1);
    assert_true(s->seen && s->covered);
    device_zero(n->params.device, grad, bytes);
    tape_set_grad(n->tape, grad);
    tape_forward(n->tape);
    buckets_reduce(b, n->tape, &s->base, grad, share);
    assert_true(s->joined);
    free(s->seen);
    free(s->covered);
}

static void try_net(const backend_t *backend, device_t *d, bool recompute, int64_t least, int at_least) {
    net_t n;
    buckets_t b;
    spy_t s;
    net_open(&n, backend, (net_how_t){.blocks = 4, .frozen = 1, .recompute = recompute, .capacity = room, .device = d});
    float *want = calloc((size_t)n.params.n_trainable, sizeof *want);
    assert_non_null(want);
    net_load(&n, 20, 12);
    (void)net_run(&n, want);
    buckets_cut(n.tape, &n.params, least, &b);
    assert_true(b.count >= at_least && b.count <= BUCKETS_MOST);
    assert_int_equal(b.n_all, n.params.n_trainable);
    for (int i = 0; i < b.count; i++) assert_true(b.item[i].n >= least || b.item[i].at == 0);
    assert_int_equal(b.item[b.count - 1].done, tape_backward_events(n.tape));
    for (int round = 0; round < ROUNDS; round++) {
        reduce(&n, &b, want, round & 1, &s);
        assert_int_equal(s.calls, b.count);
        assert_true(b.count == 1 ? s.early == 0 : s.early >= 1);
        assert_true(s.early >= b.count - 2); /* one op gives A and B their gradients, and two buckets may share it */
    }
    int parts = 0;
    for (int i = 0; i < b.count; i++) parts += b.item[i].done > (i ? b.item[i - 1].done : 0);
    if (d) assert_int_equal(tape_recorded(n.tape), 1 + parts);
    free(want);
    net_close(&n);
}

static void test_parts(void **state) {
    (void)state;
    for (int recompute = 0; recompute < 2; recompute++) {
        try_net(&backend_cpu, NULL, recompute, 1, 5);
        try_net(&backend_cpu, NULL, recompute, 70, 2);
        try_net(&backend_cpu, NULL, recompute, BUCKET_FLOATS, 1);
        try_net(&backend_cuda_f32, device, recompute, 1, 5);
        try_net(&backend_cuda_bf16, device, recompute, 70, 2);
        try_net(&backend_cuda_f32, device, recompute, BUCKET_FLOATS, 1);
    }
}

/* A tensor that is used at both ends of a model is complete last, wherever it lies in the blob; one that no loss
 * reaches is complete at once. */
static void test_done(void **state) {
    (void)state;
    param_set_t params;
    tape_t *t = NULL;
    buckets_t b;
    int once, twice, never;
    const int64_t dim[] = {4, 4}, rows = DIM_N, input_dim[] = {DIM_N, 4};
    param_set_init(&params, DT_F32);
    assert_int_equal(param_declare(&params, "once", 2, dim, true, false, &once), ST_OK);
    assert_int_equal(param_declare(&params, "never", 2, dim, true, false, &never), ST_OK);
    assert_int_equal(param_declare(&params, "twice", 2, dim, true, false, &twice), ST_OK);
    assert_int_equal(param_set_alloc(&params, true), ST_OK);
    assert_int_equal(tape_open(&backend_cpu, &params, &t), ST_OK);
    val_t x = tape_input(t, "x", DT_F32, 2, input_dim);
    const int order[] = {twice, once, twice};
    for (int i = 0; i < 3; i++) {
        const val_t in[] = {x, tape_param(t, order[i]), VAL_NONE};
        x = tape_emit(t, OP_LINEAR, "linear", 3, in, NULL, 0, NULL);
    }
    val_t targets = tape_input(t, "targets", DT_I32, 1, &rows), weights = tape_input(t, "weights", DT_F32, 1, &rows);
    const val_t tail[] = {x, tape_param(t, once), targets, weights};
    val_t loss = tape_emit(t, OP_LINEAR_CROSS_ENTROPY, "head", 4, tail, NULL, 0, NULL);
    tape_keep(t, loss);
    assert_int_equal(tape_plan(t, room, loss, true), ST_OK);
    assert_int_equal(tape_backward_events(t), 4); /* the head, three products */
    assert_int_equal(tape_gradient_done(t, twice), 4);
    assert_int_equal(tape_gradient_done(t, once), 3);
    assert_int_equal(tape_gradient_done(t, never), 0);
    buckets_cut(t, &params, 16, &b);
    assert_int_equal(b.count, 3);
    assert_int_equal(b.item[0].at, params.item[never].offset);
    assert_int_equal(b.item[1].at, params.item[once].offset);
    assert_int_equal(b.item[2].at, params.item[twice].offset);
    tape_close(t);
    param_set_release(&params);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_parts), cmocka_unit_test(test_done)};
    return cmocka_run_group_tests_name("buckets", tests, open_device, close_device);
}
