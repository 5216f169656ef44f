#include "train/models/build.h"
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"

static val_t input(build_t *b, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(b->tape, name, dtype, 1, &dim);
}

static void declare_inputs(build_t *b) {
    b->ids = input(b, "ids", DT_I32, DIM_N);
    b->positions = input(b, "positions", DT_I32, DIM_N);
    b->cu = input(b, "cu_seqlens", DT_I32, DIM_S1);
    b->rows = input(b, "rows", DT_I32, DIM_M);
    b->past = b->key = b->targets = b->weights = VAL_NONE;
    if (b->options.cached) b->past = input(b, "past", DT_I32, DIM_S);
    if (b->options.with_grad) b->key = input(b, "token keys", DT_U64, DIM_N);
    if (b->options.tail == TAIL_LOSS) {
        b->targets = input(b, "targets", DT_I32, DIM_M);
        b->weights = input(b, "loss weights", DT_F32, DIM_M);
    }
    b->table = b->loss = b->nll = b->logits = VAL_NONE;
}

status_t build_open(model_t *m, const backend_t *backend, const hook_t *hook, int n_hook, build_options_t options,
                    build_t *b) {
    memset(b, 0, sizeof *b);
    b->model = m;
    b->hook = hook;
    b->n_hook = n_hook;
    b->options = options;
    TRY(tape_open(backend, &m->params, &b->tape));
    declare_inputs(b);
    m->family->build(b);
    status_t st = tape_plan(b->tape, options.capacity, b->loss, options.with_grad);
    if (st != ST_OK) build_close(b);
    return st;
}

void build_close(build_t *b) {
    tape_close(b->tape);
    memset(b, 0, sizeof *b);
}

val_t m_embed(build_t *b) {
    const val_t in[] = {tape_param(b->tape, b->model->embed), b->ids};
    return tape_emit(b->tape, OP_EMBEDDING, "embed", 2, in, NULL, 0, NULL);
}

val_t m_linear(build_t *b, int site, val_t x) {
    const site_t *s = &b->model->site[site];
    const val_t in[] = {x, tape_param(b->tape, s->weight), s->bias < 0 ? VAL_NONE : tape_param(b->tape, s->bias)};
    val_t y = tape_emit(b->tape, OP_LINEAR, s->module, 3, in, NULL, 0, NULL);
    for (int i = 0; i < b->n_hook; i++)
        if (b->hook[i].linear) y = b->hook[i].linear(b->hook[i].self, b, s, x, y);
    return y;
}

val_t m_rmsnorm(build_t *b, const char *name, int weight, val_t x) {
    const val_t in[] = {x, tape_param(b->tape, weight)};
    const rmsnorm_attr_t attr = {b->model->config.eps};
    return tape_emit(b->tape, OP_RMSNORM, name, 2, in, &attr, sizeof attr, NULL);
}

val_t m_layernorm(build_t *b, const char *name, int weight, int bias, val_t x) {
    const val_t in[] = {x, tape_param(b->tape, weight), tape_param(b->tape, bias)};
    const layernorm_attr_t attr = {b->model->config.eps};
    return tape_emit(b->tape, OP_LAYERNORM, name, 3, in, &attr, sizeof attr, NULL);
}

val_t m_rope(build_t *b, const char *name, val_t x) {
    if (b->table.id < 0) {
        const rope_table_attr_t attr = {b->model->config.head_dim / 2, b->model->config.inv_freq,
                                        b->model->params.real};
        b->table = tape_emit(b->tape, OP_ROPE_TABLE, "rope table", 1, &b->positions, &attr, sizeof attr, NULL);
    }
    const val_t in[] = {x, b->table};
    return tape_emit(b->tape, OP_ROPE, name, 2, in, NULL, 0, NULL);
}

static val_t attention_cached(build_t *b, const char *name, val_t q, val_t k, val_t v, double scale) {
    const model_config_t *c = &b->model->config;
    const int64_t dim[] = {2, b->options.slots * b->options.places, c->kv_heads * c->head_dim};
    val_t cache = tape_state(b->tape, "key/value cache", b->model->params.real, 3, dim);
    const val_t in[] = {q, k, v, b->cu, b->past, cache};
    const attention_cached_attr_t attr = {c->heads, c->kv_heads, c->head_dim, b->options.places, scale};
    return tape_emit(b->tape, OP_ATTENTION_CACHED, name, 6, in, &attr, sizeof attr, NULL);
}

val_t m_attention(build_t *b, int64_t layer, val_t q, val_t k, val_t v) {
    const model_config_t *c = &b->model->config;
    double scale = 1.0 / sqrt((double)c->head_dim);
    char name[64];
    snprintf(name, sizeof name, "layer %lld attention", (long long)layer);
    if (b->options.cached) return attention_cached(b, name, q, k, v, scale);
    const val_t in[] = {q, k, v, b->cu};
    const attention_attr_t attr = {c->heads, c->kv_heads, c->head_dim, scale};
    return tape_emit(b->tape, OP_ATTENTION, name, 4, in, &attr, sizeof attr, NULL);
}

val_t m_add(build_t *b, const char *name, val_t a, val_t y) {
    const val_t in[] = {a, y};
    return tape_emit(b->tape, OP_ADD, name, 2, in, NULL, 0, NULL);
}

val_t m_rows(build_t *b, val_t x) {
    const val_t in[] = {x, b->rows};
    return tape_emit(b->tape, OP_GATHER_ROWS, "loss rows", 2, in, NULL, 0, NULL);
}

static void tail_loss(build_t *b, val_t x, val_t head) {
    const val_t in[] = {x, head, b->targets, b->weights};
    b->loss = tape_emit(b->tape, OP_LINEAR_CROSS_ENTROPY, "head", 4, in, NULL, 0, NULL);
    if (b->loss.id < 0) return;
    b->nll = (val_t){b->loss.id + 2}; /* outputs of a node are consecutive values */
    tape_keep(b->tape, b->loss);
    tape_keep(b->tape, b->nll);
}

static void tail_logits(build_t *b, val_t x, val_t head) {
    const val_t in[] = {x, head, VAL_NONE};
    b->logits = tape_emit(b->tape, OP_LINEAR, "head", 3, in, NULL, 0, NULL);
    tape_keep(b->tape, b->logits);
}

void m_tail(build_t *b, val_t x) {
    static void (*const tails[])(build_t *, val_t, val_t) = {[TAIL_LOSS] = tail_loss, [TAIL_LOGITS] = tail_logits};
    tails[b->options.tail](b, x, tape_param(b->tape, b->model->head));
}
