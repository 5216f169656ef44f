/* The tape on a device, which is the host with CUDA's kernels (tests/cuda_on_host): numbers beside the CPU's, recorded
 * passes, parameters that have a copy there; and what a device does for the tape. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common_net.h"
#include "tests/common/device_group.h"
#include "kernels/half.h"
#include "kernels/ops/embedding.h"

/* ---- the device alone ------------------------------------------------------------------------------------------ */

enum { N = 1000 };

static void test_copies(void **state) {
    (void)state;
    void *a, *b, *x;
    assert_int_equal(device_alloc(device, N, "test", &a), ST_OK);
    assert_int_equal(device_alloc(device, N, "test", &b), ST_OK);
    assert_int_equal(device_alloc_pinned(device, N, "test", &x), ST_OK);
    assert_int_equal((uintptr_t)a % 256, 0);
    unsigned char *host = x, seen[N];
    for (int i = 0; i < N; i++) host[i] = (unsigned char)(i * 7);
    device_download(device, seen, a, N);
    assert_int_equal(device_sync(device, "test"), ST_OK);
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], 0);
    device_upload(device, a, host, N);
    device_copy(device, b, a, N);
    device_zero(device, b, 10);
    device_download(device, seen, b, N);
    for (int slot = 0; slot < DEVICE_MARKS; slot++) device_mark(device, slot);
    for (int slot = 0; slot < DEVICE_MARKS; slot++) assert_int_equal(device_wait(device, slot, "test"), ST_OK);
    for (int i = 0; i < N; i++) assert_int_equal(seen[i], i < 10 ? 0 : host[i]);
    device_release(device, a);
    device_release(device, b);
    device_release_pinned(device, x);
}

static void test_graph(void **state) {
    (void)state;
    void *a, *b;
    unsigned char one[N], seen[N];
    device_graph_t *g = NULL;
    assert_int_equal(device_alloc(device, N, "test", &a), ST_OK);
    assert_int_equal(device_alloc(device, N, "test", &b), ST_OK);
    memset(one, 1, N);
    assert_int_equal(device_capture_begin(device), ST_OK);
    device_copy(device, b, a, N);
    assert_int_equal(device_capture_end(device, &g), ST_OK);
    device_upload(device, a, one, N);
    device_download(device, seen, b, N);
    assert_int_equal(device_sync(device, "test"), ST_OK);
    assert_int_equal(seen[N - 1], 0); /* recorded, not done */
    device_launch(device, g);
    device_download(device, seen, b, N);
    assert_int_equal(device_sync(device, "test"), ST_OK);
    assert_memory_equal(seen, one, N);
    device_graph_release(device, g);
    device_release(device, a);
    device_release(device, b);
}

static void test_errors(void **state) {
    (void)state;
    void *p = NULL;
    device_t *d = NULL;
    char why[160];
    assert_true(cuda_count(why, sizeof why) > 0);
    assert_int_equal(cuda_open(99, &d), ST_USAGE);
    assert_non_null(strstr(st_message(), "there is no cuda:99"));
    assert_int_equal(device_alloc(device, (size_t)1 << 50, "a large thing", &p), ST_NOMEM);
    assert_non_null(strstr(st_message(), "a large thing"));
    assert_non_null(strstr(st_message(), "are free"));
    assert_null(p);
    assert_int_equal(device_sync(device, "test"), ST_OK); /* too little memory is nothing that stays */
    st_clear();
}

/* ---- the tape on it -------------------------------------------------------------------------------------------- */

static const tape_sizes_t room = {24, 20, 1, 0};
static const struct { int64_t n, m; } shapes[] = {{24, 20}, {13, 9}, {24, 20}, {1, 1}, {13, 9}, {13, 9}, {24, 20}};
enum { SHAPES = sizeof shapes / sizeof *shapes, DIFFERENT = 3 };

static float *zeros(const net_t *n) {
    float *p = calloc((size_t)n->params.n_trainable, sizeof *p);
    assert_non_null(p);
    return p;
}

static double distance(const float *x, const float *y, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        error += pow((double)x[i] - (double)y[i], 2);
        size += pow((double)y[i], 2);
    }
    return sqrt(error / size);
}

static net_how_t how_of(int k, device_t *d) {
    return (net_how_t){
        .blocks = 4, .frozen = 1, .recompute = k & 1, .dropout = k & 2 ? 0.25 : 0, .capacity = room, .device = d};
}

static double step(net_t *n, int i, float *grad) {
    net_load(n, shapes[i].n, shapes[i].m);
    tape_set_step(n->tape, (op_step_t){3, (uint64_t)i, true});
    return net_run(n, grad);
}

/* Logits of this network reach 60, of which bfloat16 rounds away 0.1 to 0.2: gradients are that uncertain. */
static const struct {
    const backend_t *backend;
    double loss, grad; /* most relative distance from the CPU's in float */
} kinds[] = {{&backend_cuda_f32, 1e-5, 1e-5}, {&backend_cuda_bf16, 2e-2, 0.3}};

static void test_numbers(void **state) {
    (void)state;
    for (int k = 0; k < 8; k++) {
        net_t cpu, dev;
        net_open(&cpu, &backend_cpu, how_of(k / 2, NULL));
        net_open(&dev, kinds[k % 2].backend, how_of(k / 2, device));
        float *want = zeros(&cpu), *got = zeros(&dev);
        for (int i = 0; i < SHAPES; i++) {
            double a = step(&cpu, i, want), b = step(&dev, i, got);
            if (!(fabs(a - b) <= kinds[k % 2].loss * fabs(a))) fail_msg("kind %d: loss %.9g, CPU %.9g", k, b, a);
            double d = distance(got, want, cpu.params.n_trainable);
            if (!(d <= kinds[k % 2].grad)) fail_msg("kind %d shape %d: gradients differ by %g", k, i, d);
        }
        free(want);
        free(got);
        net_close(&cpu);
        net_close(&dev);
    }
}

/* Seeds, step numbers, inputs and places of gradients change from pass to pass; a record must not hold them. */
static void test_recorded(void **state) {
    (void)state;
    for (int k = 0; k < 8; k++) {
        net_t plain, recorded;
        net_open(&plain, kinds[k % 2].backend, how_of(k / 2, device));
        net_open(&recorded, kinds[k % 2].backend, how_of(k / 2, device));
        tape_set_recording(plain.tape, false);
        float *want = zeros(&plain), *got = zeros(&plain);
        size_t bytes = (size_t)plain.params.n_trainable * sizeof *want;
        for (int round = 0; round < 2; round++)
            for (int i = 0; i < SHAPES; i++) {
                double a = step(&plain, i, want), b = step(&recorded, i, got);
                assert_memory_equal(&a, &b, sizeof a);
                assert_memory_equal(got, want, bytes);
            }
        assert_int_equal(tape_recorded(plain.tape), 0);
        assert_int_equal(tape_recorded(recorded.tape), 2 * DIFFERENT);
        free(want);
        free(got);
        net_close(&plain);
        net_close(&recorded);
    }
}

/* With dropout the step number matters, so a record that held one would show above. */
static void test_steps_differ(void **state) {
    (void)state;
    net_t n;
    net_open(&n, &backend_cuda_f32, how_of(2, device));
    net_load(&n, 13, 9);
    double first = net_run(&n, NULL);
    tape_set_step(n.tape, (op_step_t){3, 77, true});
    assert_true(net_run(&n, NULL) != first);
    tape_set_step(n.tape, (op_step_t){3, 4, true});
    double again = net_run(&n, NULL);
    assert_memory_equal(&again, &first, sizeof first);
    net_close(&n);
}

static void test_many_shapes(void **state) {
    (void)state;
    net_t n;
    net_open(&n, &backend_cuda_f32,
             (net_how_t){.blocks = 1, .capacity = {TAPE_RECORDS + 9, 1, 1, 0}, .device = device});
    float *grad = zeros(&n);
    for (int round = 0; round < 2; round++)
        for (int64_t rows = 1; rows <= TAPE_RECORDS + 9; rows++) {
            net_load(&n, rows, 1);
            assert_true(isfinite(net_run(&n, grad)));
        }
    assert_int_equal(tape_recorded(n.tape), TAPE_RECORDS);
    free(grad);
    net_close(&n);
}

static void test_missing_kernel(void **state) {
    (void)state;
    param_set_t params;
    tape_t *t = NULL;
    int w;
    const int64_t dim[] = {NET_V, NET_D}, rows = DIM_N;
    backend_t poor = backend_cuda_f32;
    const embedding_attr_t type = {DT_F32};
    poor.kernel[OP_EMBEDDING] = (op_kernel_t){0};
    param_set_init(&params, DT_F32);
    assert_int_equal(param_declare(&params, "w", 2, dim, false, false, &w), ST_OK);
    assert_int_equal(param_set_alloc(&params, false), ST_OK);
    assert_int_equal(tape_open(&poor, &params, &t), ST_INTERNAL); /* the parameters are on no device */
    assert_int_equal(param_set_place(&params, device, &backend_cuda_f32), ST_OK);
    assert_int_equal(tape_open(&poor, &params, &t), ST_OK);
    val_t ids = tape_input(t, "ids", DT_I32, 1, &rows);
    const val_t in[] = {tape_param(t, w), ids};
    tape_keep(t, tape_emit(t, OP_EMBEDDING, "the first site", 2, in, &type, sizeof type, NULL));
    assert_int_equal(tape_plan(t, room, VAL_NONE, false), ST_INTERNAL);
    assert_non_null(strstr(st_message(), "the first site"));
    assert_non_null(strstr(st_message(), "embedding"));
    st_clear();
    tape_close(t);
    param_set_release(&params);
}

/* ---- parameters ------------------------------------------------------------------------------------------------ */

/* Beside bfloat16 weights a window is float, and rounded into them on its way up and whenever it is settled. */
static void check_rounded_window(param_set_t *p, int window, int whole) {
    float *rows = p->item[window].value.data, next[12];
    uint16_t half[24];
    for (int i = 0; i < 12; i++) rows[i] = 1.001f + (float)i, next[i] = 2.003f - (float)i;
    assert_int_equal(param_set_place(p, device, &backend_cuda_bf16), ST_OK);
    for (int k = 0; k < 2; k++) {
        if (k) {
            device_upload(device, p->item[window].at, next, sizeof next);
            param_settle(p);
        }
        device_download(device, half, p->item[whole].at, sizeof half);
        assert_int_equal(device_sync(device, "rows"), ST_OK);
        for (int i = 0; i < 12; i++) assert_int_equal(half[8 + i], bf16_from_f32(k ? next[i] : 1.001f + (float)i));
    }
    assert_int_equal(param_download(p), ST_OK);
    assert_memory_equal(rows, next, sizeof next);
    param_set_unplace(p);
}

static void test_params(void **state) {
    (void)state;
    param_set_t owner, p;
    int frozen, trained, window;
    const int64_t dim[] = {6, 4};
    param_set_t *both[] = {&owner, &p};
    for (int k = 0; k < 2; k++) {
        param_set_init(both[k], DT_F32);
        assert_int_equal(param_declare(both[k], "frozen", 2, dim, false, false, &frozen), ST_OK);
        assert_int_equal(param_declare(both[k], "other", 2, dim, false, false, &window), ST_OK);
        assert_int_equal(param_declare(both[k], "trained", 2, dim, true, false, &trained), ST_OK);
        assert_int_equal(param_declare_window(both[k], "rows", window, 2, 3, &window), ST_OK);
        if (k) param_share(&p, frozen, &owner);
        assert_int_equal(param_set_alloc(both[k], true), ST_OK);
        for (int i = 0; i < 24; i++) ((float *)both[k]->item[frozen + 1].value.data)[i] = (float)(k + i);
        for (int i = 0; i < 24; i++) ((float *)both[k]->item[trained].value.data)[i] = (float)(100 + k + i);
        assert_int_equal(param_set_place(both[k], device, &backend_cuda_f32), ST_OK);
    }
    assert_ptr_equal(p.item[frozen].at, owner.item[frozen].at);
    assert_ptr_equal(p.item[window].at, (char *)p.item[frozen + 1].at + 2 * 4 * sizeof(float));
    /* an update on the device reaches the host, windows too */
    device_zero(device, p.item[trained].at, 24 * sizeof(float));
    device_zero(device, p.item[window].at, 12 * sizeof(float));
    assert_int_equal(param_download(&p), ST_OK);
    for (int i = 0; i < 24; i++) assert_true(((float *)p.item[trained].value.data)[i] == 0);
    for (int i = 0; i < 24; i++)
        assert_true(((float *)p.item[frozen + 1].value.data)[i] == (i < 8 || i >= 20 ? (float)(1 + i) : 0));
    ((float *)p.item[window].value.data)[5] = 42;
    assert_int_equal(param_upload(&p), ST_OK);
    ((float *)p.item[window].value.data)[5] = 1;
    assert_int_equal(param_download(&p), ST_OK);
    assert_true(((float *)p.item[window].value.data)[5] == 42);
    param_set_unplace(&p);
    check_rounded_window(&p, window, frozen + 1);
    param_set_release(&p);
    param_set_release(&owner);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_copies),      cmocka_unit_test(test_graph),          cmocka_unit_test(test_errors),
        cmocka_unit_test(test_numbers),     cmocka_unit_test(test_recorded),       cmocka_unit_test(test_steps_differ),
        cmocka_unit_test(test_many_shapes), cmocka_unit_test(test_missing_kernel), cmocka_unit_test(test_params),
    };
    return cmocka_run_group_tests_name("tape on a device", tests, open_device, close_device);
}
