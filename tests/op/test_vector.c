/* Flat vectors: clipping and AdamW of the CPU against their definition in double, and the CUDA kernels, run on the
 * host, against the CPU. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda.h"
#include "kernels/philox.h"

/* All work is done at once on the host, so the harness's memory is the device's. */
static device_t device = {.name = "host"};

enum { N = 3 * VECTOR_BLOCK + 77, SPLIT = 5001, STEPS = 10, MAX_TILES = 16 };

static void *must(void *p) {
    assert_non_null(p);
    return p;
}

static float *numbers(int64_t n, uint64_t stream) {
    size_t bytes = ((size_t)n * sizeof(float) + 127) / 64 * 64;
    float *x = must(aligned_alloc(64, bytes));
    for (int64_t i = 0; i < n; i++) {
        uint32_t w[4];
        rng_words(11, RNG_INIT, stream, (uint64_t)i, w);
        x[i] = 2 * rng_unit(w[0]) - 1;
    }
    return x;
}

/* Two tensors, of which the second begins at an odd place and has another rate and no decay. */
typedef struct run {
    const vector_calls_t *call;
    device_t *d;
    float *x, *m, *v;
    double partial[N / VECTOR_BLOCK + 1];
    vector_tile_t tile[MAX_TILES];
    vector_adamw_t adamw;
    vector_step_t step;
    vector_outcome_t out;
} run_t;

static void add_tiles(run_t *r, int64_t lo, int64_t hi, double lr_scale, bool decay) {
    int64_t first = r->adamw.first;
    for (int64_t at = lo; at < hi; at += VECTOR_BLOCK) {
        int64_t n = hi - at < VECTOR_BLOCK ? hi - at : VECTOR_BLOCK;
        assert_true(r->adamw.n_tile < MAX_TILES && at >= first);
        r->tile[r->adamw.n_tile++] = (vector_tile_t){r->x + at, at, n, lr_scale, decay};
    }
}

static int64_t most(int64_t a, int64_t b) {
    return a > b ? a : b;
}

static void open_run(run_t *r, const vector_calls_t *call, device_t *d, int64_t first, int64_t end) {
    memset(r, 0, sizeof *r);
    r->call = call;
    r->d = d;
    r->x = numbers(N, 1);
    r->m = must(calloc((size_t)N, sizeof *r->m));
    r->v = must(calloc((size_t)N, sizeof *r->v));
    r->adamw = (vector_adamw_t){.tile = r->tile,
                                .first = first,
                                .exp_avg = r->m,
                                .exp_avg_sq = r->v,
                                .beta1 = 0.9,
                                .beta2 = 0.999,
                                .epsilon = 1e-8,
                                .weight_decay = 0.1};
    add_tiles(r, first, end < SPLIT ? end : SPLIT, 1, true);
    add_tiles(r, most(first, SPLIT), end, 0.5, false);
}

static void close_run(run_t *r) {
    free(r->x);
    free(r->m);
    free(r->v);
}

/* Step s = 1, 2, ... of a gradient that is clipped now and then. */
static void update(run_t *r, const float *grad, int s, double rate) {
    r->step = (vector_step_t){.scale = 1.0 / (3 * s),
                              .max_norm = 16,
                              .rate = rate,
                              .correction1 = 1 - pow(r->adamw.beta1, s),
                              .correction2 = 1 - pow(r->adamw.beta2, s)};
    r->call->squares(r->d, grad, N, &r->step, r->partial);
    r->call->norm(r->d, r->partial, vector_blocks(N), &r->step, &r->out);
    r->call->adamw(r->d, &r->adamw, grad, &r->step, &r->out);
}

static void train(run_t *r) {
    for (int s = 1; s <= STEPS; s++) {
        float *grad = numbers(N, (uint64_t)(100 + s));
        update(r, grad, s, 1e-2);
        free(grad);
    }
}

/* Distance of vectors, by their norms. */
static double distance(const float *a, const float *b, int64_t n) {
    double d = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        size += (double)b[i] * (double)b[i];
    }
    return sqrt(d / size);
}

/* In double and by the book, for one number of one tensor. */
static double by_the_book(int64_t i, const double *clip) {
    float *start = numbers(N, 1);
    double x = (double)start[i], m = 0, v = 0, lr = i < SPLIT ? 1e-2 : 5e-3, decay = i < SPLIT ? 0.1 : 0;
    free(start);
    for (int s = 1; s <= STEPS; s++) {
        float *grad = numbers(N, (uint64_t)(100 + s));
        double g = (double)grad[i] / (3 * s) * clip[s];
        free(grad);
        x -= lr * decay * x;
        m = 0.9 * m + 0.1 * g;
        v = 0.999 * v + 0.001 * g * g;
        x -= lr * (m / (1 - pow(0.9, s))) / (sqrt(v / (1 - pow(0.999, s))) + 1e-8);
    }
    return x;
}

static void test_cpu(void **state) {
    (void)state;
    static const int64_t places[] = {0, 1, SPLIT - 1, SPLIT, VECTOR_BLOCK, N - 1};
    run_t r;
    double clip[STEPS + 1];
    int clipped = 0;
    open_run(&r, &vector_cpu, NULL, 0, N);
    for (int s = 1; s <= STEPS; s++) {
        float *grad = numbers(N, (uint64_t)(100 + s));
        double sum = 0;
        for (int64_t i = 0; i < N; i++) sum += (double)grad[i] * (double)grad[i] / (9 * s * s);
        update(&r, grad, s, 1e-2);
        assert_true(fabs(r.out.norm - sqrt(sum)) < 1e-6 * sqrt(sum));
        clip[s] = sqrt(sum) > 16 ? 16 / sqrt(sum) : 1;
        clipped += clip[s] < 1;
        free(grad);
    }
    assert_true(clipped > 0 && clipped < STEPS);
    for (size_t k = 0; k < sizeof places / sizeof *places; k++) {
        double want = by_the_book(places[k], clip);
        if (!(fabs((double)r.x[places[k]] - want) < 1e-6)) fail_msg("%lld", (long long)places[k]);
    }
    close_run(&r);
}

static void compare(int64_t first, int64_t end) {
    run_t want, got;
    open_run(&want, &vector_cpu, NULL, first, end);
    open_run(&got, backend_cuda_f32.vector, &device, first, end);
    train(&want);
    train(&got);
    assert_true(fabs(want.out.norm - got.out.norm) <= 1e-14 * want.out.norm);
    assert_true(distance(got.x, want.x, N) < 1e-7);
    assert_true(distance(got.m, want.m, end - first) < 1e-7);
    assert_true(distance(got.v, want.v, end - first) < 1e-7);
    assert_int_equal(got.out.bad, 0);
    float *start = numbers(N, 1);
    assert_memory_equal(got.x, start, (size_t)first * sizeof *start);
    assert_memory_equal(got.x + end, start + end, (size_t)(N - end) * sizeof *start);
    assert_true(distance(start + first, got.x + first, end - first) > 1e-2);
    free(start);
    close_run(&want);
    close_run(&got);
}

static void test_cuda(void **state) {
    (void)state;
    compare(0, N);
}

/* Shares begin at multiples of 32 numbers. */
static void test_shares(void **state) {
    (void)state;
    compare(32, SPLIT + 100);
    compare(6400, N);
    compare(64, 64 + 32);
}

/* From the first norm that is no number on nothing changes any more. */
static void bad_norm(const vector_calls_t *call, device_t *d, float worst) {
    run_t r;
    float *grad = numbers(N, 100), *was = must(malloc(3 * (size_t)N * sizeof *was));
    open_run(&r, call, d, 0, N);
    update(&r, grad, 1, 1e-2);
    memcpy(was, r.x, N * sizeof *was);
    memcpy(was + N, r.m, N * sizeof *was);
    memcpy(was + 2 * N, r.v, N * sizeof *was);
    float good = grad[N - 5];
    grad[N - 5] = worst;
    update(&r, grad, 2, 1e-2);
    assert_int_equal(r.out.bad, 1);
    assert_false(isfinite(r.out.norm));
    grad[N - 5] = good;
    update(&r, grad, 3, 1e-2);
    assert_int_equal(r.out.bad, 1);
    assert_true(isfinite(r.out.norm));
    assert_memory_equal(was, r.x, N * sizeof *was);
    assert_memory_equal(was + N, r.m, N * sizeof *was);
    assert_memory_equal(was + 2 * N, r.v, N * sizeof *was);
    close_run(&r);
    free(grad);
    free(was);
}

static void test_bad_norm(void **state) {
    (void)state;
    for (int k = 0; k < 2; k++) {
        bad_norm(&vector_cpu, NULL, k ? NAN : INFINITY);
        bad_norm(backend_cuda_f32.vector, &device, k ? NAN : -INFINITY);
    }
}

/* The squares of shares, each in a row of its own, make the whole gradient's norm; one of them that is no number is
 * seen by all. */
static void norm_of_shares(const vector_calls_t *call, device_t *d) {
    enum { ROW = 16, SHARES = 3 };
    static const int64_t first[SHARES + 1] = {0, 32, 6400, N};
    float *grad = numbers(N, 100);
    const vector_step_t step = {.scale = 0.3, .max_norm = 1};
    double partial[N / VECTOR_BLOCK + 1], squares[SHARES * ROW] = {0}, whole = 0;
    vector_outcome_t out = {0};
    for (int64_t i = 0; i < N; i++) whole += 0.09 * (double)grad[i] * (double)grad[i];
    for (int s = 0; s < SHARES; s++) {
        int64_t n = first[s + 1] - first[s];
        call->squares(d, grad + first[s], n, &step, partial);
        call->sum(d, partial, vector_blocks(n), &squares[s * ROW]);
    }
    call->norm(d, squares, SHARES * ROW, &step, &out);
    assert_true(fabs(out.norm - sqrt(whole)) < 1e-6 * out.norm && out.bad == 0);
    assert_true(fabs(out.clip - 1 / (out.norm + 1e-6)) < 1e-12);
    grad[N - 1] = NAN;
    call->squares(d, grad + first[2], N - first[2], &step, partial);
    call->sum(d, partial, vector_blocks(N - first[2]), &squares[2 * ROW]);
    call->norm(d, squares, SHARES * ROW, &step, &out);
    assert_int_equal(out.bad, 1);
    squares[0] = 7;
    call->sum(d, partial, 0, squares); /* a share without elements */
    assert_true(squares[0] == 0);
    free(grad);
}

static void test_norm_of_shares(void **state) {
    (void)state;
    norm_of_shares(&vector_cpu, NULL);
    norm_of_shares(backend_cuda_f32.vector, &device);
}

static void small_ones(const vector_calls_t *call, device_t *d) {
    static const int64_t lengths[] = {0, 1, 3, 4, 1023, 1024, 4097};
    const double good[3] = {1, -2, 0}, bad[3] = {1, (double)INFINITY, 0};
    for (size_t k = 0; k < sizeof lengths / sizeof *lengths; k++)
        for (int odd = 0; odd < 2; odd++) {
            int64_t n = lengths[k];
            float *x = numbers(n, 3), *y = numbers(n + 1, 4), *sum = numbers(n + 1, 4);
            call->add(d, sum + odd, x, n);
            for (int64_t i = 0; i < n; i++) assert_true(sum[odd + i] == y[odd + i] + x[i]);
            if (!odd) assert_true(sum[n] == y[n]);
            free(x);
            free(y);
            free(sum);
        }
    float g[2] = {-0.0f, 1};
    call->taint(d, g, good, 3);
    assert_true(g[0] == 0 && signbit(g[0]) && g[1] == 1);
    call->taint(d, g, bad, 3);
    assert_true(isnan(g[0]) && g[1] == 1);
}

static void test_small_ones(void **state) {
    (void)state;
    small_ones(&vector_cpu, NULL);
    small_ones(backend_cuda_f32.vector, &device);
}

static void test_convert(void **state) {
    (void)state;
    enum { COUNT = 4100 };
    float *x = numbers(COUNT, 5), copy[COUNT];
    uint16_t want[COUNT], got[COUNT];
    x[0] = INFINITY, x[1] = -0.0f, x[2] = 1.00390625f, x[3] = 1.01171875f; /* halves go to the even neighbour */
    vector_cpu.convert(NULL, want, DT_BF16, x, COUNT);
    backend_cuda_bf16.vector->convert(&device, got, DT_BF16, x, COUNT);
    assert_memory_equal(want, got, sizeof want);
    assert_true(want[0] == 0x7f80 && want[1] == 0x8000 && want[2] == 0x3f80 && want[3] == 0x3f82);
    backend_cuda_bf16.vector->convert(&device, copy, DT_F32, x, COUNT);
    assert_memory_equal(copy, x, sizeof copy);
    vector_cpu.convert(NULL, copy, DT_F32, x, COUNT);
    assert_memory_equal(copy, x, sizeof copy);
    free(x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_cuda),
        cmocka_unit_test(test_shares),
        cmocka_unit_test(test_bad_norm),
        cmocka_unit_test(test_small_ones),
        cmocka_unit_test(test_convert),
        cmocka_unit_test(test_norm_of_shares),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
