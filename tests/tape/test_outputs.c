/* Nodes whose second output has a gradient, too: a sum with its norm as one node, beside the two nodes that it stands
 * for. Both outputs are used, one of them, or both inputs are one value; blocks are kept or replayed. The same bits in
 * every gradient, and no gradient is read after its memory went to another. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/ops/embedding.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/rmsnorm.h"
#include "common_net.h"
#include "tests/common/device_group.h"

enum { D = 8, V = 11, BLOCKS = 3, ROWS = 13, LOSS_ROWS = 9 };

typedef enum used { BOTH, ONLY_SUM, ONLY_NORM, TWICE, USES } used_t; /* TWICE: both, of x + x */

typedef struct how {
    used_t used;
    bool layernorm, recompute, joined;
    bool frozen; /* norms, and the embedding below the first block */
} how_t;

typedef struct joined {
    param_set_t params;
    tape_t *tape;
    val_t ids, rows, targets, weights, loss;
    int embed, last, norm[BLOCKS], bias[BLOCKS], in[BLOCKS], out[BLOCKS];
} joined_t;

static void declare_all(joined_t *n, bool frozen) {
    n->embed = net_declare(&n->params, "embed", 0, V, D, !frozen);
    for (int i = 0; i < BLOCKS; i++) {
        n->norm[i] = net_declare(&n->params, "norm", i, D, 0, !frozen);
        n->bias[i] = net_declare(&n->params, "bias", i, D, 0, !frozen);
        n->in[i] = net_declare(&n->params, "in", i, D, D, i > 0 || !frozen);
        n->out[i] = net_declare(&n->params, "out", i, D, D, true);
    }
    n->last = net_declare(&n->params, "last", 0, V, D, false);
}

static val_t linear(joined_t *n, int weight, val_t x) {
    const val_t in[] = {x, tape_param(n->tape, weight), VAL_NONE};
    return tape_emit(n->tape, OP_LINEAR, "linear", 3, in, NULL, 0, NULL);
}

static val_t add(joined_t *n, val_t x, val_t y) {
    const val_t in[] = {x, y};
    return tape_emit(n->tape, OP_ADD, "sum", 2, in, NULL, 0, NULL);
}

/* The sum x + y, and its norm in *h. */
static val_t add_norm(joined_t *n, const how_t *how, int i, val_t x, val_t y, val_t *h) {
    const rmsnorm_attr_t rms = {1e-5};
    const layernorm_attr_t layer = {1e-5};
    const void *attr = how->layernorm ? (const void *)&layer : &rms;
    size_t bytes = how->layernorm ? sizeof layer : sizeof rms;
    const val_t w = tape_param(n->tape, n->norm[i]), b = tape_param(n->tape, n->bias[i]);
    int more = how->layernorm; /* inputs of the norm beside its weight */
    if (how->joined) {
        const val_t in[] = {x, y, w, b};
        return tape_emit(n->tape, how->layernorm ? OP_ADD_LAYERNORM : OP_ADD_RMSNORM, "sum and norm", 3 + more, in,
                         attr, bytes, h);
    }
    const val_t in[] = {add(n, x, y), w, b};
    *h = tape_emit(n->tape, how->layernorm ? OP_LAYERNORM : OP_RMSNORM, "norm", 2 + more, in, attr, bytes, NULL);
    return in[0];
}

static val_t block(joined_t *n, const how_t *how, int i, val_t x) {
    val_t h, s = add_norm(n, how, i, x, how->used == TWICE ? x : linear(n, n->in[i], x), &h);
    if (how->used == ONLY_SUM) return linear(n, n->out[i], s);
    if (how->used == ONLY_NORM) return linear(n, n->out[i], h);
    return add(n, s, linear(n, n->out[i], h));
}

static val_t input(joined_t *n, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(n->tape, name, dtype, 1, &dim);
}

static void fill(joined_t *n) {
    int32_t *ids = tape_data(n->tape, n->ids), *rows = tape_data(n->tape, n->rows),
            *targets = tape_data(n->tape, n->targets);
    float *weights = tape_data(n->tape, n->weights);
    for (int i = 0; i < ROWS; i++) ids[i] = (7 * i * i + 3 * i) % V;
    for (int i = 0; i < LOSS_ROWS; i++) {
        rows[i] = ROWS - LOSS_ROWS + i;
        targets[i] = (5 * i + 2) % V;
        weights[i] = 0.5f + 0.125f * (float)i;
    }
    tape_set_sizes(n->tape, (tape_sizes_t){ROWS, LOSS_ROWS, 1, 0});
    tape_set_step(n->tape, (op_step_t){3, 4, true});
}

static void open_net(joined_t *n, const backend_t *backend, device_t *on, const how_t *how) {
    memset(n, 0, sizeof *n);
    param_set_init(&n->params, on ? DT_F32 : backend->real);
    declare_all(n, how->frozen);
    assert_int_equal(param_set_alloc(&n->params, true), ST_OK);
    net_randomize(&n->params);
    assert_int_equal(param_set_place(&n->params, on, backend), ST_OK);
    assert_int_equal(tape_open(backend, &n->params, &n->tape), ST_OK);
    n->ids = input(n, "ids", DT_I32, DIM_N);
    n->rows = input(n, "rows", DT_I32, DIM_M);
    n->targets = input(n, "targets", DT_I32, DIM_M);
    n->weights = input(n, "weights", DT_F32, DIM_M);
    const val_t in[] = {tape_param(n->tape, n->embed), n->ids};
    const embedding_attr_t type = {backend->real};
    val_t x = tape_emit(n->tape, OP_EMBEDDING, "embed", 2, in, &type, sizeof type, NULL);
    for (int i = 0; i < BLOCKS; i++) {
        tape_segment_begin(n->tape, how->recompute);
        x = block(n, how, i, x);
        tape_segment_end(n->tape);
    }
    const val_t gather[] = {x, n->rows};
    x = tape_emit(n->tape, OP_GATHER_ROWS, "rows", 2, gather, NULL, 0, NULL);
    const val_t tail[] = {x, tape_param(n->tape, n->last), n->targets, n->weights};
    n->loss = tape_emit(n->tape, OP_LINEAR_CROSS_ENTROPY, "head", 4, tail, NULL, 0, NULL);
    tape_keep(n->tape, n->loss);
    if (tape_plan(n->tape, (tape_sizes_t){ROWS + 4, LOSS_ROWS + 4, 1, 0}, n->loss, true) != ST_OK)
        fail_msg("%s", st_message());
    fill(n);
}

static void close_net(joined_t *n) {
    tape_close(n->tape);
    param_set_release(&n->params);
}

static size_t grad_bytes(const joined_t *n) {
    return (size_t)n->params.n_trainable * dtype_size(n->params.real);
}

/* Forward and backward; `grad` is overwritten. */
static double run(joined_t *n, void *grad) {
    device_t *d = n->params.device;
    void *fetched, *at = d ? n->params.device_grad : grad;
    tape_forward(n->tape);
    if (tape_fetch(n->tape, n->loss, &fetched) != ST_OK) fail_msg("%s", st_message());
    double loss = *(double *)fetched;
    device_zero(d, at, grad_bytes(n));
    tape_set_grad(n->tape, at);
    tape_backward(n->tape);
    if (d) device_download(d, grad, at, grad_bytes(n));
    assert_int_equal(device_sync(d, "gradients"), ST_OK);
    return loss;
}

/* Every buffer is NaN as soon as the plan says it is dead. */
static void run_with_burial(joined_t *n, void *grad) {
    tape_t *t = n->tape;
    memset(grad, 0, grad_bytes(n));
    tape_set_grad(t, grad);
    memset(t->arena, 0xff, t->arena_bytes);
    for (int64_t e = 0; e < t->n_event; e++) {
        const op_kernel_t *k = &t->backend->kernel[t->node[t->event[e].node].op];
        (t->event[e].kind == EVENT_BACKWARD ? k->bwd : k->fwd)(&t->event[e].io);
        for (int64_t i = 0; i < t->n_buffer; i++)
            if (t->buffer[i].last == e) memset((char *)t->arena + t->buffer[i].offset, 0xff, t->buffer[i].bytes);
    }
}

static int nodes_of(const joined_t *n, op_t op) {
    int count = 0;
    for (int64_t i = 0; i < n->tape->n_node; i++) count += n->tape->node[i].op == op;
    return count;
}

static void check(const backend_t *backend, device_t *on, how_t how) {
    joined_t two, one;
    open_net(&two, backend, on, &how);
    how.joined = true;
    open_net(&one, backend, on, &how);
    assert_int_equal(nodes_of(&one, how.layernorm ? OP_ADD_LAYERNORM : OP_ADD_RMSNORM), BLOCKS);
    void *want = calloc(1, grad_bytes(&two)), *got = calloc(1, grad_bytes(&two));
    assert_true(want && got);
    double x = run(&two, want), y = run(&one, got);
    assert_memory_equal(&x, &y, sizeof x);
    if (memcmp(want, got, grad_bytes(&two)) != 0)
        fail_msg("%s: other gradients where %s of %s is used, %s%s", backend->name,
                 (const char *[]){"all", "the sum", "the norm", "all of x + x"}[how.used],
                 how.layernorm ? "add_layernorm" : "add_rmsnorm", how.recompute ? "replayed" : "kept",
                 how.frozen ? ", frozen below" : "");
    if (!on) {
        run_with_burial(&one, got);
        assert_memory_equal(want, got, grad_bytes(&two));
    }
    if (how.used == BOTH) assert_true(one.tape->arena_bytes <= two.tape->arena_bytes);
    free(want);
    free(got);
    close_net(&two);
    close_net(&one);
}

static void check_all(const backend_t *backend, device_t *on) {
    for (int used = 0; used < USES; used++)
        for (int k = 0; k < 8; k++) check(backend, on, (how_t){(used_t)used, k & 1, k & 2, false, k & 4});
}

static void test_host(void **state) {
    (void)state;
    check_all(&backend_ref_f64, NULL);
    check_all(&backend_ref_f32, NULL);
    check_all(&backend_cpu, NULL);
}

static void test_device_float(void **state) {
    (void)state;
    check_all(&backend_cuda_f32, device);
}

static void test_device_bf16(void **state) {
    (void)state;
    check_all(&backend_cuda_bf16, device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_host),
        cmocka_unit_test(test_device_float),
        cmocka_unit_test(test_device_bf16),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
