#include "train/methods/prefix_table.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/activation.h"
#include "kernels/ops/splice.h"
#include "train/tape/initial.h"

#define ENCODER "prompt_encoder.default."

status_t prefix_table_open(const model_t *m, int64_t encoder, prefix_table_t **out) {
    const model_config_t *c = &m->config;
    void *p;
    TRY(buf_calloc(&p, 1, sizeof **out, "prefix"));
    *out = p;
    **out = (prefix_table_t){.layers = c->layers,
                             .kv_heads = c->kv_heads,
                             .kv = c->kv_heads * c->head_dim,
                             .encoder = encoder,
                             .table = -1,
                             .zero = -1};
    return ST_OK;
}

static status_t check_keys(const prefix_cfg_t *c) {
    if (c->encoder_hidden_size && !c->prefix_projection)
        return st_raise(ST_USAGE, "method.encoder_hidden_size",
                        "has no effect without prefix_projection; set that to true or leave this out");
    if (c->init_text && c->init_weights != PREFIX_TEXT)
        return st_raise(ST_USAGE, "method.init_text",
                        "has no effect without init_weights: text; set that or leave this out");
    if (c->init_weights != PREFIX_TEXT) return ST_OK;
    if (!c->init_text) return st_raise(ST_USAGE, "method.init_text", "is missing; init_weights: text needs it");
    if (c->prefix_projection)
        return st_raise(ST_USAGE, "method.init_weights",
                        "text gives keys and values, and no input of the projection is known that makes them; use "
                        "random or zero, or prefix_projection: false");
    return ST_OK;
}

void prefix_table_close(void *self) {
    prefix_table_t *t = self;
    if (!t) return;
    for (int i = 0; i < t->n_block; i++) {
        for (int k = 0; t->block[i].value && k < t->block[i].n_value; k++) free(t->block[i].value[k]);
        free(t->block[i].value);
        free(t->block[i].field);
    }
    free(t);
}

static status_t copy_names(prefix_block_t *b, const char *field, const char *const *value) {
    void *p;
    if (!field) return ST_OK;
    b->field = buf_strdup(field);
    if (!b->field) return ST_NOMEM;
    TRY(buf_calloc(&p, b->n_value, sizeof *b->value, "labels"));
    b->value = p;
    for (int i = 0; i < b->n_value; i++)
        if (!(b->value[i] = buf_strdup(value[i]))) return ST_NOMEM;
    return ST_OK;
}

status_t prefix_table_add(prefix_table_t *t, const char *field, const char *const *value, int n, int64_t count,
                          bool optional) {
    if (t->n_block == PREFIX_MAX_BLOCKS)
        return st_raise(ST_USAGE, "method", "more than %d fields choose a prefix; use fewer", PREFIX_MAX_BLOCKS - 1);
    prefix_block_t *b = &t->block[t->n_block++];
    *b = (prefix_block_t){.n_value = field ? n : 1, .count = count, .first = t->rows, .optional = field && optional};
    t->rows += b->n_value * count;
    if (b->optional && count > t->missing) t->missing = count;
    return copy_names(b, field, value);
}

int64_t prefix_table_count(const prefix_table_t *t) {
    int64_t n = 0;
    for (int i = 0; i < t->n_block; i++) n += t->block[i].count;
    return n;
}

static status_t declare_linear(model_t *m, const char *module, int64_t out, int64_t in, int *weight, int *bias) {
    char name[64];
    snprintf(name, sizeof name, ENCODER "%s.weight", module);
    TRY(param_declare(&m->params, name, 2, (int64_t[]){out, in}, true, true, weight));
    snprintf(name, sizeof name, ENCODER "%s.bias", module);
    return param_declare(&m->params, name, 1, &out, true, false, bias);
}

status_t prefix_table_declare(prefix_table_t *t, model_t *m) {
    int64_t width = 2 * t->layers * t->kv;
    if (!t->encoder)
        return param_declare(&m->params, "prompt_embeddings", 2, (int64_t[]){t->rows, width}, true, true, &t->table);
    TRY(param_declare(&m->params, ENCODER "embedding.weight", 2, (int64_t[]){t->rows, t->kv}, true, true, &t->table));
    TRY(declare_linear(m, "transform.0", t->encoder, t->kv, &t->weight[0], &t->bias[0]));
    TRY(declare_linear(m, "transform.2", width, t->encoder, &t->weight[1], &t->bias[1]));
    if (!t->missing) return ST_OK;
    return param_declare(&m->params, ENCODER "missing.weight", 2, (int64_t[]){t->missing, t->kv}, false, false,
                         &t->zero);
}

status_t prefix_table_train(const void *cfg, const prefix_cfg_t *keys, prefix_add_t add, model_t *m, void **self) {
    prefix_table_t *t = NULL;
    int64_t encoder = keys->encoder_hidden_size ? keys->encoder_hidden_size : m->config.kv_heads * m->config.head_dim;
    TRY(check_keys(keys));
    status_t st = prefix_table_open(m, keys->prefix_projection ? encoder : 0, &t);
    if (st == ST_OK) {
        t->init = (prefix_init_t)keys->init_weights;
        t->text = keys->init_text;
        st = add(cfg, t);
    }
    if (st == ST_OK) st = prefix_table_declare(t, m);
    if (st == ST_OK)
        *self = t;
    else
        prefix_table_close(t);
    return st;
}

status_t prefix_table_place(void *self, virtual_layout_t *layout) {
    prefix_table_t *t = self;
    TRY(virtual_reserve(layout, VIRTUAL_PREFIX, t->rows + t->missing, &t->first));
    for (int i = 0; i < t->n_block; i++) {
        prefix_block_t *b = &t->block[i];
        virtual_group_t g = {.place = VIRTUAL_PREFIX,
                             .first = t->first + (int32_t)b->first,
                             .count = (int32_t)b->count,
                             .field = -1,
                             .missing = -1};
        if (b->field) {
            TRY(virtual_add_field(layout, b->field, (const char *const *)b->value, b->n_value, b->optional, &g.field));
            b->layout_field = g.field;
            if (b->optional) g.missing = t->first + (int32_t)t->rows;
        }
        TRY(virtual_add_group(layout, g));
    }
    return ST_OK;
}

/* ---- on the tape --------------------------------------------------------------------------------------------- */

static val_t linear(const prefix_table_t *t, tape_t *tape, int i, val_t x) {
    const val_t in[] = {x, tape_param(tape, t->weight[i]), tape_param(tape, t->bias[i])};
    return tape_emit(tape, OP_LINEAR, "prefix encoder", 3, in, NULL, 0, NULL);
}

val_t prefix_table_encode(const prefix_table_t *t, tape_t *tape, int e) {
    const activation_attr_t attr = {ACTIVATION_TANH};
    val_t x = linear(t, tape, 0, tape_param(tape, e));
    x = tape_emit(tape, OP_ACTIVATION, "prefix encoder", 1, &x, &attr, sizeof attr, NULL);
    return linear(t, tape, 1, x);
}

static begun_t begin(void *self, build_t *b) {
    const prefix_table_t *t = self;
    if (!t->encoder) return (begun_t){{tape_param(b->tape, t->table), VAL_NONE}};
    begun_t r = {{prefix_table_encode(t, b->tape, t->table), VAL_NONE}};
    if (t->zero >= 0) r.value[1] = prefix_table_encode(t, b->tape, t->zero);
    return r;
}

/* Half 2 i of a row are the keys of layer i, half 2 i + 1 its values. Numbers of missing rows that no table answers to
 * stay zero. */
static val_t put(const prefix_table_t *t, build_t *b, const begun_t *begun, int64_t half, val_t x) {
    splice_attr_t attr = {t->first, (int32_t)t->rows, half * t->kv, t->kv};
    const val_t in[] = {x, begun->value[0], b->prefix};
    x = tape_emit(b->tape, OP_SPLICE, "prefix", 3, in, &attr, sizeof attr, NULL);
    if (begun->value[1].id < 0) return x;
    attr.first += attr.count;
    attr.count = (int32_t)t->missing;
    const val_t more[] = {x, begun->value[1], b->prefix};
    return tape_emit(b->tape, OP_SPLICE, "prefix without a label", 3, more, &attr, sizeof attr, NULL);
}

static void kv(void *self, build_t *b, const begun_t *begun, int64_t layer, val_t *pk, val_t *pv) {
    *pk = put(self, b, begun, 2 * layer, *pk);
    *pv = put(self, b, begun, 2 * layer + 1, *pv);
}

hook_t prefix_table_hook(void *self) {
    return (hook_t){.self = self, .begin = begin, .kv = kv};
}

/* ---- initial values ------------------------------------------------------------------------------------------ */

/* The text's rows for blocks that hold the prefix itself; rows that a label adds to another one start at zero. */
static status_t fill_text(const prefix_table_t *t, model_t *m, const method_init_t *in) {
    const view_t *v = &m->params.item[t->table].value;
    size_t row = (size_t)v->dim[1] * dtype_size(v->dtype);
    const prefix_block_t *last = &t->block[t->n_block - 1];
    char *to = (char *)v->data + (size_t)last->first * row;
    TRY(prefix_text_rows(m, in, t->text, last->count, to));
    for (int i = 1; i < last->n_value; i++) memcpy(to + (size_t)(i * last->count) * row, to, (size_t)last->count * row);
    return ST_OK;
}

static void zero_value(const param_t *p) {
    memset(p->value.data, 0, view_bytes(&p->value));
}

status_t prefix_table_init(void *self, model_t *m, const method_init_t *in) {
    const prefix_table_t *t = self;
    const param_t *item = m->params.item, *table = &item[t->table];
    if (!t->encoder && t->init != PREFIX_RANDOM) {
        zero_value(table);
        return t->init == PREFIX_TEXT ? fill_text(t, m, in) : ST_OK;
    }
    initial_normal(table, 1, in->seed);
    for (int i = 0; t->encoder && i < 2; i++) {
        double bound = 1 / sqrt((double)item[t->weight[i]].value.dim[1]);
        initial_uniform(&item[t->weight[i]], bound, in->seed);
        initial_uniform(&item[t->bias[i]], bound, in->seed);
    }
    if (t->init != PREFIX_ZERO) return ST_OK;
    zero_value(&item[t->weight[1]]);
    zero_value(&item[t->bias[1]]);
    return ST_OK;
}
