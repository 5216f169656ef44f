#include "train/models/build.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "kernels/ops/embedding.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/splice.h"

static val_t input(build_t *b, const char *name, dtype_t dtype, int64_t dim) {
    return tape_input(b->tape, name, dtype, 1, &dim);
}

static void declare_inputs(build_t *b) {
    b->ids = input(b, "ids", DT_I32, DIM_N);
    b->positions = input(b, "positions", DT_I32, DIM_N);
    b->cu = input(b, "cu_seqlens", DT_I32, DIM_S1);
    b->rows = input(b, "rows", DT_I32, DIM_M);
    b->past = b->key = b->targets = b->weights = b->rewards = b->slot = b->prefix = b->cu_prefix = VAL_NONE;
    for (int i = 0; i < VIRTUAL_MAX_FIELDS; i++) b->label[i] = VAL_NONE;
    bool prefix = b->options.shared > 0;
    for (int i = 0; i < b->n_hook; i++) {
        if (b->hook[i].embed && b->slot.id < 0) b->slot = input(b, "slots", DT_I32, DIM_N);
        if (b->hook[i].kv) prefix = true;
    }
    if (prefix) {
        b->prefix = input(b, "prefix rows", DT_I32, DIM_P);
        b->cu_prefix = input(b, "cu_prefix", DT_I32, DIM_S1);
    }
    if (b->options.cached) b->past = input(b, "past", DT_I32, DIM_S);
    if (b->options.with_grad) b->key = input(b, "token keys", DT_U64, DIM_N);
    if (b->options.tail == TAIL_LOSS) {
        b->targets = input(b, "targets", DT_I32, DIM_M);
        b->weights = input(b, "loss weights", DT_F32, DIM_M);
        if (b->options.goal && b->options.goal->tail) b->rewards = input(b, "rewards", DT_F32, DIM_M);
    }
    b->table = b->more_loss = b->loss = b->nll = b->logits = VAL_NONE;
}

static status_t emit(build_t *b) {
    void *cache;
    if (b->n_hook > BUILD_MAX_HOOKS)
        return st_raise(ST_USAGE, "method", "%d methods at once; %d are possible", b->n_hook, BUILD_MAX_HOOKS);
    TRY(buf_calloc(&cache, b->model->config.layers, sizeof *b->cache, "caches"));
    b->cache = cache;
    declare_inputs(b);
    for (int i = 0; i < b->n_hook; i++)
        if (b->hook[i].begin) b->begun[i] = b->hook[i].begin(b->hook[i].self, b);
    b->model->family->build(b);
    return tape_plan(b->tape, b->options.capacity, b->loss, b->options.with_grad);
}

status_t build_open(model_t *m, const backend_t *backend, const hook_t *hook, int n_hook, build_options_t options,
                    build_t *b) {
    memset(b, 0, sizeof *b);
    b->model = m;
    b->hook = hook;
    b->n_hook = n_hook;
    b->options = options;
    if (backend->head_dim_max && m->config.head_dim > backend->head_dim_max)
        return st_raise(ST_USAGE, "model", "heads of %lld numbers are too large for %s, which takes %lld; use the CPU",
                        (long long)m->config.head_dim, backend->name, (long long)backend->head_dim_max);
    TRY(tape_open(backend, &m->params, &b->tape));
    status_t st = emit(b);
    if (st != ST_OK) build_close(b);
    return st;
}

void build_close(build_t *b) {
    tape_close(b->tape);
    free(b->cache);
    memset(b, 0, sizeof *b);
}

/* The rows of added tokens, as often as they occur: the same numbers, but here they have a gradient. */
static val_t embed_new(build_t *b, val_t x) {
    const model_t *m = b->model;
    if (m->new_embed < 0 || !b->options.with_grad) return x;
    const splice_attr_t attr = {(int32_t)m->new_first, (int32_t)m->n_new, 0, m->config.hidden};
    const val_t in[] = {x, tape_param(b->tape, m->new_embed), b->ids};
    return tape_emit(b->tape, OP_SPLICE, "added tokens", 3, in, &attr, sizeof attr, NULL);
}

val_t m_embed(build_t *b) {
    const val_t in[] = {tape_param(b->tape, b->model->embed), b->ids};
    const embedding_attr_t attr = {tape_real(b->tape)};
    val_t x = embed_new(b, tape_emit(b->tape, OP_EMBEDDING, "embed", 2, in, &attr, sizeof attr, NULL));
    for (int i = 0; i < b->n_hook; i++)
        if (b->hook[i].embed) x = b->hook[i].embed(b->hook[i].self, b, &b->begun[i], x);
    return x;
}

val_t m_label(build_t *b, int field) {
    if (b->label[field].id < 0) b->label[field] = input(b, "labels", DT_I32, DIM_S);
    return b->label[field];
}

/* What a site computes without the methods that only add to it. */
static val_t plain_linear(build_t *b, const site_t *s, val_t x) {
    for (int i = 0; i < b->n_hook; i++) {
        val_t y = b->hook[i].replace ? b->hook[i].replace(b->hook[i].self, b, s, x) : VAL_NONE;
        if (y.id >= 0) return y;
    }
    const val_t in[] = {x, tape_param(b->tape, s->weight), s->bias < 0 ? VAL_NONE : tape_param(b->tape, s->bias)};
    return tape_emit(b->tape, OP_LINEAR, s->module, 3, in, NULL, 0, NULL);
}

val_t m_linear(build_t *b, int site, val_t x) {
    const site_t *s = &b->model->site[site];
    val_t y = plain_linear(b, s, x);
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

/* Keys or values x [N,K*h] of the rows that a batch holds once, for all sequences that begin with them. */
static val_t shared_rows(build_t *b, val_t x) {
    const splice_attr_t attr = {b->options.shared_first, b->options.shared, 0, tape_shape(b->tape, x)->dim[1]};
    const val_t in[] = {VAL_NONE, x, b->prefix};
    return b->options.shared ? tape_emit(b->tape, OP_SPLICE, "shared rows", 3, in, &attr, sizeof attr, NULL) : VAL_NONE;
}

/* The prefix of a layer as the batch and its methods make it: keys, values and their places; absent if there is none.
 */
static void prefix_of(build_t *b, int64_t layer, val_t k, val_t v, val_t out[3]) {
    out[0] = shared_rows(b, k);
    out[1] = shared_rows(b, v);
    for (int i = 0; i < b->n_hook; i++)
        if (b->hook[i].kv) b->hook[i].kv(b->hook[i].self, b, &b->begun[i], layer, &out[0], &out[1]);
    out[2] = b->cu_prefix;
}

static val_t attention_cached(build_t *b, const char *name, int64_t layer, const val_t *qkv, const val_t *prefix) {
    const model_config_t *c = &b->model->config;
    const int64_t dim[] = {2, b->options.slots * b->options.places, c->kv_heads * c->head_dim};
    val_t cache = b->cache[layer] = tape_state(b->tape, "key/value cache", tape_real(b->tape), 3, dim);
    const val_t in[] = {qkv[0], qkv[1], qkv[2], b->cu, b->past, cache, prefix[0], prefix[1], prefix[2]};
    const attention_cached_attr_t attr = {c->heads, c->kv_heads, c->head_dim, b->options.places,
                                          1.0 / sqrt((double)c->head_dim)};
    return tape_emit(b->tape, OP_ATTENTION_CACHED, name, 9, in, &attr, sizeof attr, NULL);
}

val_t m_attention(build_t *b, int64_t layer, val_t q, val_t k, val_t v) {
    const model_config_t *c = &b->model->config;
    char name[64];
    val_t prefix[3];
    snprintf(name, sizeof name, "layer %lld attention", (long long)layer);
    prefix_of(b, layer, k, v, prefix);
    if (b->options.cached) return attention_cached(b, name, layer, (val_t[]){q, k, v}, prefix);
    const val_t in[] = {q, k, v, b->cu, prefix[0], prefix[1], prefix[2]};
    const attention_attr_t attr = {c->heads, c->kv_heads, c->head_dim, 1.0 / sqrt((double)c->head_dim)};
    return tape_emit(b->tape, OP_ATTENTION, name, 7, in, &attr, sizeof attr, NULL);
}

val_t m_add(build_t *b, const char *name, val_t a, val_t y) {
    const val_t in[] = {a, y};
    return tape_emit(b->tape, OP_ADD, name, 2, in, NULL, 0, NULL);
}

val_t m_add_rmsnorm(build_t *b, const char *name, int weight, val_t a, val_t y, val_t *h) {
    const val_t in[] = {a, y, tape_param(b->tape, weight)};
    const rmsnorm_attr_t attr = {b->model->config.eps};
    return tape_emit(b->tape, OP_ADD_RMSNORM, name, 3, in, &attr, sizeof attr, h);
}

val_t m_add_layernorm(build_t *b, const char *name, int weight, int bias, val_t a, val_t y, val_t *h) {
    const val_t in[] = {a, y, tape_param(b->tape, weight), tape_param(b->tape, bias)};
    const layernorm_attr_t attr = {b->model->config.eps};
    return tape_emit(b->tape, OP_ADD_LAYERNORM, name, 4, in, &attr, sizeof attr, h);
}

val_t m_rows(build_t *b, val_t x) {
    const val_t in[] = {x, b->rows};
    return tape_emit(b->tape, OP_GATHER_ROWS, "loss rows", 2, in, NULL, 0, NULL);
}

void m_loss(build_t *b, val_t x, val_t head, val_t weights, val_t more) {
    const model_t *m = b->model;
    const linear_cross_entropy_attr_t attr = {m->new_first};
    bool apart = m->new_head >= 0 && b->options.with_grad;
    const val_t in[] = {x, head, b->targets, weights, apart ? tape_param(b->tape, m->new_head) : VAL_NONE};
    b->loss = tape_emit(b->tape, OP_LINEAR_CROSS_ENTROPY, "head", 5, in, &attr, sizeof attr, NULL);
    if (b->loss.id < 0) return;
    b->nll = (val_t){b->loss.id + 2}; /* outputs of a node are consecutive values */
    tape_keep(b->tape, b->loss);
    tape_keep(b->tape, b->nll);
    b->more_loss = more;
    tape_loss(b->tape, more);
    tape_keep(b->tape, more);
}

static void tail_loss(build_t *b, val_t x, val_t head) {
    const goal_t *g = b->options.goal;
    if (g && g->tail)
        g->tail(g, b, x, head);
    else
        m_loss(b, x, head, b->weights, VAL_NONE);
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
