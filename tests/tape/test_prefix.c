/* Prefix rows of attention on the tape: their number is a step size. Gradients against finite differences; what is
 * trained, replayed or left over from a larger step changes no bit. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/ops/attention.h"
#include "kernels/ops/splice.h"
#include "kernels/philox.h"
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

enum { HEADS = 4, KV_HEADS = 2, DIM = 3, ROW = HEADS * DIM, KEY = KV_HEADS * DIM, V = 9, VIRTUAL = 5, S = 4 };
enum { EMBED, QUERY, KEYS, VALUES, TABLE, PARAMS }; /* EMBED is also the head; TABLE: [keys | values] of prefix rows */
static const char *const names[PARAMS] = {"embed", "q", "k", "v", "table"};
static const int64_t dims[PARAMS][2] = {{V, ROW}, {ROW, ROW}, {KEY, ROW}, {KEY, ROW}, {VIRTUAL, 2 * KEY}};

/* A step: rows and prefix rows by sequence; every row has a loss. */
typedef struct batch_shape {
    int32_t cu[S + 1], cu_prefix[S + 1];
} batch_shape_t;
static const batch_shape_t mixed = {{0, 4, 4, 5, 11}, {0, 3, 5, 5, 9}};
static const batch_shape_t without = {{0, 4, 4, 5, 11}, {0, 0, 0, 0, 0}};
static const batch_shape_t larger = {{0, 9, 12, 20, 24}, {0, 30, 30, 40, 70}};

typedef struct net {
    param_set_t params;
    tape_t *tape;
    int index[PARAMS];
    val_t ids, cu, prefix, cu_prefix, targets, weights, loss;
} net_t;

static double uniform(uint64_t stream, uint64_t index) {
    uint32_t word[4];
    rng_words(47, RNG_SAMPLE, stream, index, word);
    return (double)(2 * rng_unit(word[0]) - 1);
}

static void declare(net_t *n, dtype_t real, uint32_t trained) {
    param_set_init(&n->params, real);
    for (int i = 0; i < PARAMS; i++)
        assert_int_equal(param_declare(&n->params, names[i], 2, dims[i], trained >> i & 1, true, &n->index[i]), ST_OK);
    assert_int_equal(param_set_alloc(&n->params, true), ST_OK);
    for (int i = 0; i < PARAMS; i++) {
        const view_t *v = &n->params.item[n->index[i]].value;
        for (int64_t k = 0; k < view_count(v); k++) {
            double x = uniform((uint64_t)i, (uint64_t)k);
            if (real == DT_F64)
                ((double *)v->data)[k] = x;
            else
                ((float *)v->data)[k] = (float)x;
        }
    }
}

static val_t linear(const net_t *n, int w, val_t x) {
    const val_t in[] = {x, tape_param(n->tape, n->index[w])};
    return tape_emit(n->tape, OP_LINEAR, names[w], 2, in, NULL, 0, NULL);
}

static val_t prefix_rows(const net_t *n, int64_t col) {
    const splice_attr_t attr = {0, VIRTUAL, col, KEY};
    const val_t in[] = {VAL_NONE, tape_param(n->tape, n->index[TABLE]), n->prefix};
    return tape_emit(n->tape, OP_SPLICE, "prefix", 3, in, &attr, sizeof attr, NULL);
}

static val_t input(const net_t *n, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(n->tape, name, dtype, 1, &dim);
}

static void emit(net_t *n, bool recompute) {
    tape_t *t = n->tape;
    const attention_attr_t attr = {HEADS, KV_HEADS, DIM, 0.6};
    n->ids = input(n, "ids", DT_I32, DIM_N);
    n->cu = input(n, "cu_seqlens", DT_I32, DIM_S1);
    n->prefix = input(n, "prefix numbers", DT_I32, DIM_P);
    n->cu_prefix = input(n, "cu_prefix", DT_I32, DIM_S1);
    n->targets = input(n, "targets", DT_I32, DIM_N);
    n->weights = input(n, "weights", DT_F32, DIM_N);
    const val_t embed[] = {tape_param(t, n->index[EMBED]), n->ids};
    val_t x = tape_emit(t, OP_EMBEDDING, "embed", 2, embed, NULL, 0, NULL);
    for (int block = 0; block < 2; block++) {
        tape_segment_begin(t, recompute);
        const val_t in[] = {linear(n, QUERY, x), linear(n, KEYS, x),  linear(n, VALUES, x), n->cu,
                            prefix_rows(n, 0),   prefix_rows(n, KEY), n->cu_prefix};
        const val_t sum[] = {x, tape_emit(t, OP_ATTENTION, "attention", 7, in, &attr, sizeof attr, NULL)};
        x = tape_emit(t, OP_ADD, "sum", 2, sum, NULL, 0, NULL);
        tape_segment_end(t);
    }
    const val_t tail[] = {x, tape_param(t, n->index[EMBED]), n->targets, n->weights};
    n->loss = tape_emit(t, OP_LINEAR_CROSS_ENTROPY, "head", 4, tail, NULL, 0, NULL);
    tape_keep(t, n->loss);
}

static tape_sizes_t sizes_of(const batch_shape_t *b) {
    return (tape_sizes_t){.n = b->cu[S], .m = b->cu[S], .s = S, .p = b->cu_prefix[S]};
}

static void open_net(net_t *n, const backend_t *backend, uint32_t trained, bool recompute, const batch_shape_t *room) {
    memset(n, 0, sizeof *n);
    declare(n, backend->real, trained);
    assert_int_equal(tape_open(backend, &n->params, &n->tape), ST_OK);
    emit(n, recompute);
    if (tape_plan(n->tape, sizes_of(room), n->loss, true) != ST_OK) fail_msg("%s", st_message());
}

static void close_net(net_t *n) {
    tape_close(n->tape);
    param_set_release(&n->params);
}

static double run(const net_t *n, const batch_shape_t *b, bool backward) {
    tape_set_sizes(n->tape, sizes_of(b));
    tape_set_step(n->tape, (op_step_t){1, 2, true});
    memcpy(tape_data(n->tape, n->cu), b->cu, sizeof b->cu);
    memcpy(tape_data(n->tape, n->cu_prefix), b->cu_prefix, sizeof b->cu_prefix);
    for (int32_t i = 0; i < b->cu[S]; i++) {
        ((int32_t *)tape_data(n->tape, n->ids))[i] = (7 * i * i + 3 * i) % V;
        ((int32_t *)tape_data(n->tape, n->targets))[i] = (5 * i + 2) % V;
        ((float *)tape_data(n->tape, n->weights))[i] = 0.5f + 0.25f * (float)(i % 3);
    }
    for (int32_t i = 0; i < b->cu_prefix[S]; i++) ((int32_t *)tape_data(n->tape, n->prefix))[i] = 2 * i % VIRTUAL;
    tape_forward(n->tape);
    double loss = *(double *)tape_data(n->tape, n->loss);
    memset(n->params.grad, 0, (size_t)n->params.n_trainable * dtype_size(n->params.real));
    if (backward) tape_backward(n->tape);
    return loss;
}

static void test_differences(void **state) {
    (void)state;
    net_t n;
    open_net(&n, &backend_ref_f64, ~0u, false, &mixed);
    run(&n, &mixed, true);
    double *grad = calloc((size_t)n.params.n_trainable, sizeof *grad), *x = n.params.trainable, step = 1e-5;
    assert_non_null(grad);
    memcpy(grad, n.params.grad, (size_t)n.params.n_trainable * sizeof *grad);
    for (int i = 0; i < PARAMS; i++) {
        const param_t *one = &n.params.item[n.index[i]];
        double largest = 0;
        for (int64_t k = one->offset; k < one->offset + view_count(&one->value); k++) {
            double kept = x[k];
            x[k] = kept + step;
            double above = run(&n, &mixed, false);
            x[k] = kept - step;
            double slope = (above - run(&n, &mixed, false)) / (2 * step);
            x[k] = kept;
            if (!(fabs(grad[k] - slope) <= 1e-7 * (1 + fabs(slope))))
                fail_msg("%s, place %d: gradient %.12g, slope %.12g", one->name, (int)(k - one->offset), grad[k],
                         slope);
            largest = fmax(largest, fabs(slope));
        }
        if (!(largest > 1e-4)) fail_msg("nothing reaches %s (%g)", one->name, largest);
    }
    free(grad);
    close_net(&n);
}

static const backend_t *const backends[] = {&backend_ref_f64, &backend_ref_f32, &backend_cpu};

static void same_gradients(const net_t *a, const net_t *b) {
    for (int i = 0; i < PARAMS; i++) {
        view_t got = param_grad(&a->params, a->index[i]), want = param_grad(&b->params, b->index[i]);
        if (got.data) assert_memory_equal(got.data, want.data, view_bytes(&got));
    }
}

/* One tensor trained alone, blocks replayed, a plan for more after a larger step in memory full of NaN. */
static void test_plans_agree(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++) {
        net_t all, n;
        open_net(&all, backends[b], ~0u, false, &mixed);
        double want = run(&all, &mixed, true);
        for (int i = -1; i < PARAMS; i++)
            for (int how = 0; how < 4; how++) {
                open_net(&n, backends[b], i < 0 ? ~0u : 1u << i, how & 1, how & 2 ? &larger : &mixed);
                if (how & 2) run(&n, &larger, true);
                memset(n.tape->arena, 0xff, n.tape->arena_bytes);
                memset(n.tape->scratch, 0xff, n.tape->scratch_bytes);
                double loss = run(&n, &mixed, true);
                assert_memory_equal(&loss, &want, sizeof loss);
                same_gradients(&n, &all);
                close_net(&n);
            }
        close_net(&all);
    }
}

/* A step without prefix rows is legal: the table has no gradient then. */
static void test_no_prefix_rows(void **state) {
    (void)state;
    for (size_t b = 0; b < 3; b++) {
        net_t n;
        open_net(&n, backends[b], ~0u, b == 2, &mixed);
        double with = run(&n, &mixed, false), loss = run(&n, &without, true);
        assert_true(isfinite(loss) && fabs(loss - with) > 1e-3);
        view_t g = param_grad(&n.params, n.index[TABLE]);
        for (size_t i = 0; i < view_bytes(&g); i++) assert_int_equal(((const char *)g.data)[i], 0);
        close_net(&n);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_plans_agree),
        cmocka_unit_test(test_no_prefix_rows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
