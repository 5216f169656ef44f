#include "common_net.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/ops/embedding.h"
#include "kernels/ops/lowrank.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/philox.h"

static double uniform(uint64_t stream, uint64_t index) {
    uint32_t word[4];
    rng_words(41, RNG_SAMPLE, stream, index, word);
    return (double)(2 * rng_unit(word[0]) - 1);
}

int net_declare(param_set_t *s, const char *part, int block, int64_t rows, int64_t cols, bool trainable) {
    char name[64];
    int index;
    const int64_t dim[2] = {rows, cols};
    snprintf(name, sizeof name, "%s.%d", part, block);
    assert_int_equal(param_declare(s, name, cols ? 2 : 1, dim, trainable, true, &index), ST_OK);
    return index;
}

typedef struct block_params {
    int norm, gate, up, down, up_a, up_b, down_a, down_b;
} block_params_t;

static block_params_t declare_block(net_t *n, int i, bool adapted) {
    block_params_t p = {net_declare(&n->params, "norm", i, NET_D, 0, false),
                        net_declare(&n->params, "gate", i, NET_F, NET_D, false),
                        net_declare(&n->params, "up", i, NET_F, NET_D, false),
                        net_declare(&n->params, "down", i, NET_D, NET_F, false),
                        -1,
                        -1,
                        -1,
                        -1};
    if (!adapted) return p;
    p.up_a = net_declare(&n->params, "up.A", i, NET_R, NET_D, true);
    p.up_b = net_declare(&n->params, "up.B", i, NET_F, NET_R, true);
    p.down_a = net_declare(&n->params, "down.A", i, NET_R, NET_F, true);
    p.down_b = net_declare(&n->params, "down.B", i, NET_D, NET_R, true);
    return p;
}

void net_randomize(param_set_t *s) {
    for (int64_t i = 0; i < s->count; i++) {
        const param_t *p = &s->item[i];
        for (int64_t k = 0; k < view_count(&p->value); k++) {
            double x = (p->value.rank == 1 ? 1.0 : 0.0) + 0.5 * uniform((uint64_t)i, (uint64_t)k);
            if (s->real == DT_F64)
                ((double *)p->value.data)[k] = x;
            else
                ((float *)p->value.data)[k] = (float)x;
        }
    }
}

static val_t norm(net_t *n, int weight, val_t x) {
    const rmsnorm_attr_t attr = {1e-5};
    const val_t in[] = {x, tape_param(n->tape, weight)};
    return tape_emit(n->tape, OP_RMSNORM, "norm", 2, in, &attr, sizeof attr, NULL);
}

static val_t linear(net_t *n, int w, int a, int b, uint32_t site, double dropout, val_t x) {
    const val_t in[] = {x, tape_param(n->tape, w), VAL_NONE};
    val_t y = tape_emit(n->tape, OP_LINEAR, "linear", 3, in, NULL, 0, NULL);
    if (a < 0) return y;
    const lowrank_attr_t attr = {1.5, dropout, site};
    const val_t pair[] = {y, x, tape_param(n->tape, a), tape_param(n->tape, b), n->key};
    return tape_emit(n->tape, OP_LOWRANK, "pair", 5, pair, &attr, sizeof attr, NULL);
}

/* h: the norm of x. */
static val_t branch(net_t *n, const block_params_t *p, int i, double dropout, val_t h) {
    uint32_t site = 2 * (uint32_t)i;
    const val_t product[] = {linear(n, p->gate, -1, -1, 0, 0, h), linear(n, p->up, p->up_a, p->up_b, site, dropout, h)};
    val_t a = tape_emit(n->tape, OP_SILU_MUL, "product", 2, product, NULL, 0, NULL);
    return linear(n, p->down, p->down_a, p->down_b, site + 1, dropout, a);
}

static val_t sum(net_t *n, val_t x, val_t y) {
    const val_t in[] = {x, y};
    return tape_emit(n->tape, OP_ADD, "residual", 2, in, NULL, 0, NULL);
}

static val_t sum_and_norm(net_t *n, int weight, val_t x, val_t y, val_t *h) {
    const rmsnorm_attr_t attr = {1e-5};
    const val_t in[] = {x, y, tape_param(n->tape, weight)};
    return tape_emit(n->tape, OP_ADD_RMSNORM, "residual", 3, in, &attr, sizeof attr, h);
}

static val_t input(net_t *n, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(n->tape, name, dtype, 1, &dim);
}

void net_open(net_t *n, const backend_t *backend, net_how_t how) {
    block_params_t p[NET_MAX_BLOCKS];
    assert_true(how.blocks <= NET_MAX_BLOCKS);
    memset(n, 0, sizeof *n);
    n->backend = backend;
    param_set_init(&n->params, how.device ? DT_F32 : backend->real);
    int embed = net_declare(&n->params, "embed", 0, NET_V, NET_D, false);
    for (int i = 0; i < how.blocks; i++) p[i] = declare_block(n, i, i >= how.frozen);
    int last = net_declare(&n->params, "last", 0, NET_D, 0, false);
    assert_int_equal(param_set_alloc(&n->params, true), ST_OK);
    net_randomize(&n->params);
    assert_int_equal(param_set_place(&n->params, how.device, backend), ST_OK);

    assert_int_equal(tape_open(backend, &n->params, &n->tape), ST_OK);
    n->ids = input(n, "ids", DT_I32, DIM_N);
    n->key = input(n, "key", DT_U64, DIM_N);
    n->rows = input(n, "rows", DT_I32, DIM_M);
    n->targets = input(n, "targets", DT_I32, DIM_M);
    n->weights = input(n, "weights", DT_F32, DIM_M);
    const val_t in[] = {tape_param(n->tape, embed), n->ids};
    const embedding_attr_t type = {backend->real};
    val_t x = tape_emit(n->tape, OP_EMBEDDING, "embed", 2, in, &type, sizeof type, NULL), h = VAL_NONE;
    for (int i = 0; i < how.blocks; i++) {
        n->first_node[i] = (int32_t)n->tape->n_node;
        tape_segment_begin(n->tape, how.recompute);
        if (h.id < 0) h = norm(n, p[i].norm, x);
        val_t y = branch(n, &p[i], i, how.dropout, h);
        bool joined = how.joined && i + 1 < how.blocks;
        h = VAL_NONE;
        x = joined ? sum_and_norm(n, p[i + 1].norm, x, y, &h) : sum(n, x, y);
        tape_segment_end(n->tape);
        if (!i) n->first = x;
    }
    n->first_node[how.blocks] = (int32_t)n->tape->n_node;
    const val_t gather[] = {x, n->rows};
    x = norm(n, last, tape_emit(n->tape, OP_GATHER_ROWS, "rows", 2, gather, NULL, 0, NULL));
    const val_t tail[] = {x, tape_param(n->tape, embed), n->targets, n->weights};
    n->loss = tape_emit(n->tape, OP_LINEAR_CROSS_ENTROPY, "head", 4, tail, NULL, 0, NULL);
    tape_keep(n->tape, n->loss);
    if (how.keep_first) tape_keep(n->tape, n->first);
    if (tape_plan(n->tape, how.capacity, n->loss, !how.forward_only) != ST_OK) fail_msg("%s", st_message());
}

void net_close(net_t *n) {
    tape_close(n->tape);
    param_set_release(&n->params);
}

void net_load(net_t *n, int64_t tokens, int64_t rows) {
    int32_t *ids = tape_data(n->tape, n->ids), *row = tape_data(n->tape, n->rows),
            *target = tape_data(n->tape, n->targets);
    uint64_t *key = tape_data(n->tape, n->key);
    float *weight = tape_data(n->tape, n->weights);
    assert_true(rows <= tokens);
    for (int64_t i = 0; i < tokens; i++) {
        ids[i] = (int32_t)((7 * i * i + 3 * i) % NET_V);
        key[i] = (uint64_t)i;
    }
    for (int64_t i = 0; i < rows; i++) {
        row[i] = (int32_t)(tokens - rows + i);
        target[i] = (int32_t)((5 * i + 2) % NET_V);
        weight[i] = 0.5f + 0.125f * (float)(i % 8);
    }
    tape_set_sizes(n->tape, (tape_sizes_t){tokens, rows, 1, 0});
    tape_set_step(n->tape, (op_step_t){3, 4, true});
}

double net_run(net_t *n, void *grad) {
    device_t *d = n->params.device;
    size_t bytes = (size_t)n->params.n_trainable * dtype_size(n->params.real);
    void *fetched, *at = d ? n->params.device_grad : grad;
    tape_forward(n->tape);
    if (tape_fetch(n->tape, n->loss, &fetched) != ST_OK) fail_msg("%s", st_message());
    double loss = *(double *)fetched; /* backward may use its memory */
    if (!grad) return loss;
    device_zero(d, at, bytes);
    tape_set_grad(n->tape, at);
    tape_backward(n->tape);
    if (d) device_download(d, grad, at, bytes);
    assert_int_equal(device_sync(d, "gradients"), ST_OK);
    return loss;
}

void net_fill(net_t *n, int byte) {
    memset(n->tape->arena, byte, n->tape->arena_bytes);
    if (n->tape->scratch_bytes) memset(n->tape->scratch, byte, n->tape->scratch_bytes);
}
