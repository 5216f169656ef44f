/* Trained prompts on the tape: rows from an encoder and from a table spliced among embeddings, and into a tensor that
 * starts as zeros, as prefixes do. Gradients against finite differences; what is trained changes no bit of a gradient,
 * nor does memory that the plan calls dead. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/ops/activation.h"
#include "kernels/ops/lstm.h"
#include "kernels/ops/splice.h"
#include "kernels/philox.h"
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

enum { D = 6, V = 9, R = 3, H = 2, F = 5, OWN = 2, N = 11, M = 6, TABLE_FIRST = 10 };
/* the encoder answers to 0 ... R-1, the table to 10, 11; the rest are tokens. Numbers come twice and in any order. */
static const int32_t slots[N] = {-1, 0, 2, 10, -1, 1, 11, 11, 0, -1, -1};

enum {
    EMBED, /* also the head: tied */
    QUERY,
    ONWARDS,
    BACKWARDS = ONWARDS + 4,
    W_IN = BACKWARDS + 4,
    B_IN,
    W_OUT,
    TABLE,
    PARAMS
};
static const char *const names[PARAMS] = {"embed", "query", "w_ih",  "w_hh", "b_ih", "b_hh", "w_ih'",
                                          "w_hh'", "b_ih'", "b_hh'", "in",   "in b", "out",  "table"};
static const int64_t dims[PARAMS][2] = {{V, D},     {R, F},  {4 * H, F}, {4 * H, H}, {4 * H}, {4 * H}, {4 * H, F},
                                        {4 * H, H}, {4 * H}, {4 * H},    {F, 2 * H}, {F},     {D, F},  {OWN, 2 * D}};

typedef struct prompt {
    param_set_t params;
    tape_t *tape;
    int index[PARAMS];
    val_t ids, slot, rows, targets, weights, loss;
} prompt_t;

static double uniform(uint64_t stream, uint64_t index) {
    uint32_t word[4];
    rng_words(43, RNG_SAMPLE, stream, index, word);
    return (double)(2 * rng_unit(word[0]) - 1);
}

static void declare(prompt_t *p, dtype_t real, uint32_t trained) {
    param_set_init(&p->params, real);
    for (int i = 0; i < PARAMS; i++)
        assert_int_equal(
            param_declare(&p->params, names[i], dims[i][1] ? 2 : 1, dims[i], trained >> i & 1, true, &p->index[i]),
            ST_OK);
    assert_int_equal(param_set_alloc(&p->params, true), ST_OK);
    for (int i = 0; i < PARAMS; i++) {
        const view_t *v = &p->params.item[p->index[i]].value;
        for (int64_t k = 0; k < view_count(v); k++) {
            float x = (float)(0.7 * uniform((uint64_t)i, (uint64_t)k));
            if (real == DT_F64)
                ((double *)v->data)[k] = (double)x;
            else
                ((float *)v->data)[k] = x;
        }
    }
}

static val_t param(const prompt_t *p, int i) {
    return tape_param(p->tape, p->index[i]);
}

static val_t lstm(const prompt_t *p, int first, bool reverse) {
    const lstm_attr_t attr = {reverse};
    const val_t in[] = {param(p, QUERY), param(p, first), param(p, first + 1), param(p, first + 2),
                        param(p, first + 3)};
    return tape_emit(p->tape, OP_LSTM, "lstm", 5, in, &attr, sizeof attr, NULL);
}

static val_t activation(const prompt_t *p, activation_kind_t kind, val_t x) {
    const activation_attr_t attr = {kind};
    return tape_emit(p->tape, OP_ACTIVATION, "activation", 1, &x, &attr, sizeof attr, NULL);
}

static val_t linear(const prompt_t *p, int w, int b, val_t x) {
    const val_t in[] = {x, param(p, w), b < 0 ? VAL_NONE : param(p, b)};
    return tape_emit(p->tape, OP_LINEAR, "linear", 3, in, NULL, 0, NULL);
}

/* Rows [R,D]: a two-way LSTM, a projection between two nonlinearities. */
static val_t encoder(const prompt_t *p) {
    const val_t both[] = {lstm(p, ONWARDS, false), lstm(p, BACKWARDS, true)};
    val_t h = tape_emit(p->tape, OP_CONCAT, "both ways", 2, both, NULL, 0, NULL);
    h = activation(p, ACTIVATION_RELU, linear(p, W_IN, B_IN, h));
    return activation(p, ACTIVATION_TANH, linear(p, W_OUT, -1, h));
}

static val_t splice(const prompt_t *p, val_t x, val_t table, int32_t first, int32_t count, int64_t col) {
    const splice_attr_t attr = {first, count, col, D};
    const val_t in[] = {x, table, p->slot};
    return tape_emit(p->tape, OP_SPLICE, "splice", 3, in, &attr, sizeof attr, NULL);
}

static val_t input(const prompt_t *p, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(p->tape, name, dtype, 1, &dim);
}

static void emit(prompt_t *p, bool recompute) {
    tape_t *t = p->tape;
    p->ids = input(p, "ids", DT_I32, DIM_N);
    p->slot = input(p, "slots", DT_I32, DIM_N);
    p->rows = input(p, "rows", DT_I32, DIM_M);
    p->targets = input(p, "targets", DT_I32, DIM_M);
    p->weights = input(p, "weights", DT_F32, DIM_M);
    val_t encoded = encoder(p), own = param(p, TABLE);
    tape_segment_begin(t, recompute);
    const val_t embed[] = {param(p, EMBED), p->ids};
    val_t x = tape_emit(t, OP_EMBEDDING, "embed", 2, embed, NULL, 0, NULL);
    x = splice(p, splice(p, x, encoded, 0, R, 0), own, TABLE_FIRST, OWN, 0);
    val_t prefix = splice(p, splice(p, VAL_NONE, own, TABLE_FIRST, OWN, D), encoded, 0, R, 0);
    const val_t product[] = {x, prefix};
    const val_t sum[] = {x, tape_emit(t, OP_SILU_MUL, "product", 2, product, NULL, 0, NULL)};
    x = tape_emit(t, OP_ADD, "sum", 2, sum, NULL, 0, NULL);
    tape_segment_end(t);
    const val_t gather[] = {x, p->rows};
    const val_t tail[] = {tape_emit(t, OP_GATHER_ROWS, "rows", 2, gather, NULL, 0, NULL), param(p, EMBED), p->targets,
                          p->weights};
    p->loss = tape_emit(t, OP_LINEAR_CROSS_ENTROPY, "head", 4, tail, NULL, 0, NULL);
    tape_keep(t, p->loss);
}

static void load(const prompt_t *p) {
    static const int32_t rows[M] = {1, 2, 3, 5, 6, 10};
    memcpy(tape_data(p->tape, p->slot), slots, sizeof slots);
    memcpy(tape_data(p->tape, p->rows), rows, sizeof rows);
    for (int32_t i = 0; i < N; i++) ((int32_t *)tape_data(p->tape, p->ids))[i] = (7 * i * i + 3 * i) % V;
    for (int32_t i = 0; i < M; i++) {
        ((int32_t *)tape_data(p->tape, p->targets))[i] = (5 * i + 2) % V;
        ((float *)tape_data(p->tape, p->weights))[i] = 0.5f + 0.25f * (float)i;
    }
    tape_set_step(p->tape, (op_step_t){1, 2, true});
}

/* trained: bit i for parameter i. */
static void open_prompt(prompt_t *p, const backend_t *backend, uint32_t trained, bool recompute) {
    memset(p, 0, sizeof *p);
    declare(p, backend->real, trained);
    assert_int_equal(tape_open(backend, &p->params, &p->tape), ST_OK);
    emit(p, recompute);
    if (tape_plan(p->tape, (tape_sizes_t){.n = N, .m = M, .s = 1}, p->loss, true) != ST_OK)
        fail_msg("%s", st_message());
    load(p);
}

static void close_prompt(prompt_t *p) {
    tape_close(p->tape);
    param_set_release(&p->params);
}

static double run(const prompt_t *p, bool backward) {
    tape_forward(p->tape);
    double loss = *(double *)tape_data(p->tape, p->loss);
    memset(p->params.grad, 0, (size_t)p->params.n_trainable * dtype_size(p->params.real));
    if (backward) tape_backward(p->tape);
    return loss;
}

static void test_differences(void **state) {
    (void)state;
    prompt_t p;
    open_prompt(&p, &backend_ref_f64, ~0u, false);
    run(&p, true);
    double *grad = calloc((size_t)p.params.n_trainable, sizeof *grad), *x = p.params.trainable, step = 1e-5;
    assert_non_null(grad);
    memcpy(grad, p.params.grad, (size_t)p.params.n_trainable * sizeof *grad);
    for (int i = 0; i < PARAMS; i++) {
        const param_t *one = &p.params.item[p.index[i]];
        double largest = 0;
        for (int64_t k = one->offset; k < one->offset + view_count(&one->value); k++) {
            double kept = x[k];
            x[k] = kept + step;
            double above = run(&p, false);
            x[k] = kept - step;
            double slope = (above - run(&p, false)) / (2 * step);
            x[k] = kept;
            if (!(fabs(grad[k] - slope) <= 1e-7 * (1 + fabs(slope))))
                fail_msg("%s, place %d: gradient %.12g, slope %.12g", one->name, (int)(k - one->offset), grad[k],
                         slope);
            largest = fmax(largest, fabs(slope));
        }
        if (!(largest > 1e-5)) fail_msg("nothing reaches %s (%g)", one->name, largest);
    }
    free(grad);
    close_prompt(&p);
}

static const backend_t *const backends[] = {&backend_ref_f64, &backend_ref_f32, &backend_cpu};

/* Some tensors trained alone, and with rows spliced again in the backward pass: other plans and buffers, the same bits.
 */
static void test_what_is_trained(void **state) {
    (void)state;
    static const uint32_t some[] = {~0u,
                                    1u << TABLE,
                                    1u << EMBED,
                                    1u << EMBED | 1u << TABLE,
                                    1u << QUERY,
                                    1u << W_OUT,
                                    1u << ONWARDS | 1u << (BACKWARDS + 1),
                                    ~(1u << EMBED)};
    for (size_t b = 0; b < 3; b++) {
        prompt_t all, p;
        size_t size = dtype_size(backends[b]->real);
        open_prompt(&all, backends[b], ~0u, false);
        double want = run(&all, true);
        for (size_t k = 0; k < 2 * sizeof some / sizeof *some; k++) {
            uint32_t trained = some[k / 2];
            open_prompt(&p, backends[b], trained, k % 2);
            double loss = run(&p, true);
            assert_memory_equal(&loss, &want, sizeof loss);
            for (int i = 0; i < PARAMS; i++) {
                view_t got = param_grad(&p.params, p.index[i]), same = param_grad(&all.params, all.index[i]);
                assert_int_equal(got.data != NULL, trained >> i & 1);
                if (got.data) assert_memory_equal(got.data, same.data, (size_t)view_count(&got) * size);
            }
            close_prompt(&p);
        }
        close_prompt(&all);
    }
}

/* Every buffer is filled with NaN before the run, and again as soon as the plan says it is dead. */
static void test_dead_memory_is_not_read(void **state) {
    (void)state;
    for (size_t b = 0; b < 6; b++) {
        prompt_t p;
        open_prompt(&p, backends[b / 2], ~0u, b % 2);
        run(&p, true);
        tape_t *t = p.tape;
        size_t bytes = (size_t)p.params.n_trainable * dtype_size(backends[b / 2]->real);
        void *want = malloc(bytes);
        assert_non_null(want);
        memcpy(want, p.params.grad, bytes);
        memset(p.params.grad, 0, bytes);
        memset(t->arena, 0xff, t->arena_bytes);
        for (int64_t e = 0; e < t->n_event; e++) {
            const op_kernel_t *k = &backends[b / 2]->kernel[t->node[t->event[e].node].op];
            (t->event[e].kind == EVENT_BACKWARD ? k->bwd : k->fwd)(&t->event[e].io);
            for (int64_t i = 0; i < t->n_buffer; i++)
                if (t->buffer[i].last == e) memset((char *)t->arena + t->buffer[i].offset, 0xff, t->buffer[i].bytes);
        }
        assert_memory_equal(p.params.grad, want, bytes);
        free(want);
        close_prompt(&p);
    }
}

/* The plan lets a splice write over its input and hand on its gradient, and gives one without input a buffer. */
static void test_buffers_are_shared(void **state) {
    (void)state;
    prompt_t p;
    int over = 0, handed_on = 0, without = 0;
    open_prompt(&p, &backend_cpu, ~0u, false);
    for (int64_t e = 0; e < p.tape->n_event; e++) {
        const tape_event_t *ev = &p.tape->event[e];
        if (p.tape->node[ev->node].op != OP_SPLICE) continue;
        const op_io_t *io = &ev->io;
        if (ev->kind == EVENT_BACKWARD) {
            handed_on += io->gin[SPLICE_X].data == io->gout.data;
            if (!io->in[SPLICE_X].rank) assert_null(io->gin[SPLICE_X].data);
            continue;
        }
        over += io->in[SPLICE_X].data == io->out[0].data;
        without += !io->in[SPLICE_X].rank && io->out[0].data;
    }
    assert_int_equal(over, 3);
    assert_int_equal(handed_on, 3);
    assert_int_equal(without, 1);
    close_prompt(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_what_is_trained),
        cmocka_unit_test(test_dead_memory_is_not_read),
        cmocka_unit_test(test_buffers_are_shared),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
