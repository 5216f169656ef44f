/* What the list of cases cannot say about splice, activation, concat and lstm: known answers of PyTorch, accuracy over
 * the whole range, attributes that are wrong, several splices into one table. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/ops/activation.h"
#include "kernels/ops/lstm.h"
#include "kernels/ops/splice.h"
#include "tests/op/common_case.h"

static const backend_t *const backends[] = {&backend_ref_f32, &backend_ref_f64, &backend_cpu};

static view_t shape(dtype_t dtype, int64_t rows, int64_t cols) {
    return (view_t){.dtype = dtype, .rank = cols ? 2 : 1, .dim = {rows, cols}};
}

static void store(view_t *v, int64_t i, double value) {
    if (v->dtype == DT_F32)
        ((float *)v->data)[i] = (float)value;
    else
        ((double *)v->data)[i] = value;
}

/* Multiples of 1/8, exact in float. */
static void fill(view_t *v, int64_t start) {
    v->data = calloc((size_t)view_count(v), dtype_size(v->dtype));
    assert_non_null(v->data);
    for (int64_t i = 0; i < view_count(v); i++) store(v, i, (double)((i * 7 + start) % 11 - 5) / 8);
}

/* Both directions of torch.nn.LSTM(2, 2, bidirectional=True) over 3 rows, in double (torch 1.13.1). */
static void test_lstm_is_torch(void **state) {
    (void)state;
    enum { T = 3, D = 2, H = 2 };
    static const double want[2][T][H] = {{{-0.047918607217496, 0.222125774774593},
                                          {-0.059012840350903, 0.197434399624672},
                                          {-0.062815990756830, 0.128567605507247}},
                                         {{-0.281936444144313, 0.096951807213714},
                                          {-0.248783375224585, 0.100442564861021},
                                          {-0.153585016894750, 0.083557028737110}}};
    for (size_t b = 0; b < 3; b++)
        for (int reverse = 0; reverse < 2; reverse++) {
            const lstm_attr_t attr = {reverse != 0};
            dtype_t real = backends[b]->real;
            op_io_t io = {.attr = &attr};
            const view_t in[] = {shape(real, T, D), shape(real, 4 * H, D), shape(real, 4 * H, H), shape(real, 4 * H, 0),
                                 shape(real, 4 * H, 0)};
            const int64_t start[] = {4, 1 + 3 * reverse, 2 + 3 * reverse, 3 + 3 * reverse, 5 + 3 * reverse};
            for (int i = 0; i < 5; i++) {
                io.in[i] = in[i];
                fill(&io.in[i], start[i]);
            }
            assert_int_equal(op_defs[OP_LSTM]->infer(&attr, io.in, io.out), ST_OK);
            for (int o = 0; o < 3; o++) fill(&io.out[o], 0);
            io.scratch = malloc(backends[b]->kernel[OP_LSTM].scratch(&io));
            assert_non_null(io.scratch);
            backends[b]->kernel[OP_LSTM].fwd(&io);
            for (int64_t i = 0; i < T * H; i++) {
                double error = fabs(view_at(&io.out[LSTM_H], i) - want[reverse][i / H][i % H]);
                if (!(error < (real == DT_F64 ? 1e-14 : 2e-7)))
                    fail_msg("%s, reverse %d, place %d: off by %g", backends[b]->name, reverse, (int)i, error);
            }
            for (int i = 0; i < 5; i++) free(io.in[i].data);
            for (int o = 0; o < 3; o++) free(io.out[o].data);
            free(io.scratch);
        }
}

/* Relative to the value itself, from the smallest numbers to where tanh is 1. */
static void test_tanh_accuracy(void **state) {
    (void)state;
    enum { COUNT = 4000 };
    static float x[COUNT], y[COUNT];
    const activation_attr_t attr = {ACTIVATION_TANH};
    for (int i = 0; i < COUNT; i++) x[i] = (i % 2 ? -1.0f : 1.0f) * powf(10.0f, -10.0f + 12.0f * (float)i / COUNT);
    op_io_t io = {.attr = &attr};
    io.in[0] = io.out[0] = shape(DT_F32, 1, COUNT);
    io.in[0].data = x;
    io.out[0].data = y;
    backend_cpu.kernel[OP_ACTIVATION].fwd(&io);
    for (int i = 0; i < COUNT; i++) {
        double want = tanh((double)x[i]);
        if (!(fabs((double)y[i] - want) <= 2e-7 * fabs(want)))
            fail_msg("tanh(%.9g) is %.9g, not %.9g", (double)x[i], (double)y[i], want);
    }
}

static void test_relu_at_zero(void **state) {
    (void)state;
    float x[] = {-1, 0, 2}, y[3], dy[] = {4, 5, 6}, dx[3];
    const float want[] = {0, 0, 6};
    const activation_attr_t attr = {ACTIVATION_RELU};
    op_io_t io = {.attr = &attr};
    io.in[0] = io.out[0] = io.gin[0] = io.gout = shape(DT_F32, 1, 3);
    io.in[0].data = x;
    io.out[0].data = y;
    io.gin[0].data = dx;
    io.gout.data = dy;
    for (size_t b = 0; b < 3; b += 2) {
        backends[b]->kernel[OP_ACTIVATION].fwd(&io);
        backends[b]->kernel[OP_ACTIVATION].bwd(&io);
        assert_memory_equal(dx, want, sizeof want);
    }
}

static void refused(op_t op, const void *attr, const view_t *in, const char *word) {
    view_t out[OP_MAX_OUT] = {{0}};
    assert_int_equal(op_defs[op]->infer(attr, in, out), ST_INTERNAL);
    if (!strstr(st_message(), word)) fail_msg("\"%s\" does not say \"%s\"", st_message(), word);
    st_clear();
}

static void test_wrong_splice(void **state) {
    (void)state;
    const view_t in[OP_MAX_IN] = {shape(DT_F32, 7, 4), shape(DT_F32, 3, 9), shape(DT_I32, 7, 0)};
    static const struct {
        splice_attr_t attr;
        const char *word;
    } rows[] = {{{0, 4, 0, 4}, "3 rows"},          {{0, 0, 0, 4}, "must be positive"},
                {{0, 3, 6, 4}, "columns 6"},       {{0, 3, -1, 4}, "columns -1"},
                {{0, 3, INT64_MAX, 4}, "columns"}, {{0, 3, 0, 5}, "input x"},
                {{0, 3, 0, 0}, "row length"},      {{INT32_MAX, 2, 0, 4}, "32 bits"},
                {{0, 3, 0, INT64_MAX}, "columns"}, {{0, -1, 0, 4}, "must be positive"}};
    view_t out[OP_MAX_OUT] = {{0}}, wrong[OP_MAX_IN];
    const splice_attr_t good = {INT32_MAX - 2, 3, 5, 4};
    assert_int_equal(op_defs[OP_SPLICE]->infer(&good, in, out), ST_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) refused(OP_SPLICE, &rows[i].attr, in, rows[i].word);
    memcpy(wrong, in, sizeof wrong);
    wrong[SPLICE_X].dim[0] = 6;
    refused(OP_SPLICE, &good, wrong, "input x has 6");
    wrong[SPLICE_X] = shape(DT_F64, 7, 4);
    refused(OP_SPLICE, &good, wrong, "input T is f32, not f64");
}

static void test_wrong_others(void **state) {
    (void)state;
    const activation_attr_t unknown = {(activation_kind_t)2};
    const view_t x[OP_MAX_IN] = {shape(DT_F32, 7, 4)};
    refused(OP_ACTIVATION, &unknown, x, "no kind 2");
    view_t pair[OP_MAX_IN] = {shape(DT_F32, 7, 4), shape(DT_F32, 6, 4)};
    refused(OP_CONCAT, NULL, pair, "input b has 6");
    pair[1] = shape(DT_F64, 7, 4);
    refused(OP_CONCAT, NULL, pair, "input b is f64");
    static const lstm_attr_t attr = {false};
    const view_t good[OP_MAX_IN] = {shape(DT_F32, 5, 3), shape(DT_F32, 8, 3), shape(DT_F32, 8, 2), shape(DT_F32, 8, 0),
                                    shape(DT_F32, 8, 0)};
    static const char *const names[] = {"W_ih", "W_ih", "W_hh", "b_ih", "b_hh"};
    for (int i = 0; i < 5; i++) {
        view_t wrong[OP_MAX_IN];
        memcpy(wrong, good, sizeof wrong);
        wrong[i].dim[i == 0]++; /* x is longer, the others have a row too much */
        refused(OP_LSTM, &attr, wrong, names[i]);
    }
}

/* Keys and values of one layer from one table: the second splice adds, its neighbours' columns stay. */
static void test_two_splices(void **state) {
    (void)state;
    enum { N = 4, D = 2, W = 5 };
    static const int32_t index[N] = {1, -1, 0, 1};
    const splice_attr_t attr[2] = {{0, 2, 0, D}, {0, 2, 3, D}};
    static const float dy[2][N * D] = {{1, 2, 3, 4, 5, 6, 7, 8}, {10, 20, 30, 40, 50, 60, 70, 80}};
    static const float want[2 * W] = {5, 6, 0, 50, 60, 8, 10, 0, 80, 100};
    for (size_t b = 0; b < 3; b += 2) {
        float dt[2 * W], dx[N * D];
        memset(dt, 0xFF, sizeof dt);
        for (int i = 0; i < 2; i++) {
            op_io_t io = {.attr = &attr[i]};
            io.in[SPLICE_T] = io.gin[SPLICE_T] = shape(DT_F32, 2, W);
            io.in[SPLICE_INDEX] = shape(DT_I32, N, 0);
            io.in[SPLICE_INDEX].data = (void *)(uintptr_t)index;
            io.gin[SPLICE_T].data = dt;
            io.gout = shape(DT_F32, N, D);
            memcpy(dx, dy[i], sizeof dx);
            io.gout.data = io.gin[SPLICE_X].data = dx; /* passed on in its buffer, and still read for the table */
            io.gin[SPLICE_X] = io.gout;
            io.acc[SPLICE_T] = i > 0;
            backends[b]->kernel[OP_SPLICE].bwd(&io);
            assert_true(dx[0] == 0 && dx[1] == 0 && dx[4] == 0 && dx[7] == 0 && dx[2] == dy[i][2] && dx[3] == dy[i][3]);
        }
        assert_memory_equal(dt, want, sizeof want);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lstm_is_torch), cmocka_unit_test(test_tanh_accuracy), cmocka_unit_test(test_relu_at_zero),
        cmocka_unit_test(test_wrong_splice),  cmocka_unit_test(test_wrong_others),  cmocka_unit_test(test_two_splices),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
