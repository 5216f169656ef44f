#include "train/run/loaded.h"
#include <stdio.h>
#include <string.h>

static status_t open_base(const char *path, loaded_t *l) {
    TRY(weights_open(path, &l->weights));
    TRY(weights_gguf(l->weights) ? tokenizer_open_gguf(weights_gguf(l->weights), &l->tokenizer)
                                 : tokenizer_open_dir(path, &l->tokenizer));
    TRY(model_open(l->weights, DT_F32, &l->model));
    if (tokenizer_vocab_size(l->tokenizer) > l->model.config.vocab)
        return st_raise(ST_INPUT, path,
                        "the tokenizer has %d ids, the model only %lld rows; the two do not belong together",
                        (int)tokenizer_vocab_size(l->tokenizer), (long long)l->model.config.vocab);
    return ST_OK;
}

static status_t share_base(const loaded_t *base, loaded_t *l) {
    l->borrowed = true;
    l->weights = base->weights;
    l->tokenizer = base->tokenizer;
    return model_open(l->weights, DT_F32, &l->model);
}

/* Several methods keep their tensors apart by a scope, so that each has its own names. */
static status_t begin_method(loaded_t *l, const method_t *method, int several, strbuf_t *scope) {
    if (l->n_method == BUILD_MAX_HOOKS)
        return st_raise(ST_USAGE, "method", "more than %d methods at once", BUILD_MAX_HOOKS);
    scope->len = 0;
    if (several) TRY(strbuf_addf(scope, "%s.", method->section.type));
    l->model.params.scope = several ? scope->data : NULL;
    l->method[l->n_method] = (loaded_method_t){.method = method, .first_param = (int)l->model.params.count};
    return ST_OK;
}

static status_t end_method(loaded_t *l) {
    loaded_method_t *m = &l->method[l->n_method];
    m->last_param = (int)l->model.params.count;
    l->model.params.scope = NULL;
    l->hook[l->n_method++] = m->method->hook(m->self); /* from here on loaded_close releases it */
    return m->method->place ? m->method->place(m->self, &l->layout) : ST_OK;
}

static status_t load_base(loaded_t *l, const loaded_t *base, bool with_grad) {
    for (int64_t i = 0; base && i < l->model.n_weight; i++)
        param_share(&l->model.params, l->model.weight[i].param, &base->model.params);
    TRY(param_set_alloc(&l->model.params, with_grad));
    return model_load(&l->model, l->weights);
}

/* Finished adapters on their way to a model. */
typedef struct attach {
    adapter_t *adapter[BUILD_MAX_HOOKS];
    int n;
    bool several; /* methods, over all adapters */
    strbuf_t scope;
} attach_t;

static status_t attach_part(loaded_t *l, attach_t *x, adapter_t *a) {
    const char *type = json_string_value(json_object_get(adapter_config(a), "peft_type"));
    const method_t *method = method_find_peft(type);
    if (!method) {
        char known[256];
        method_peft_types(known, sizeof known);
        return st_raise(ST_INPUT, adapter_path(a), "peft_type '%s' is not supported; these are: %s", type, known);
    }
    for (int i = 0; i < l->n_method; i++)
        if (l->method[i].method == method)
            return st_raise(ST_USAGE, adapter_path(a),
                            "is the second adapter with a method of the type %s; give one of each type, because their "
                            "tensors have the same names",
                            type);
    TRY(begin_method(l, method, x->several, &x->scope));
    TRY(method->open_adapter(a, &l->model, &l->method[l->n_method].self));
    return end_method(l);
}

static status_t load_part(loaded_t *l, const loaded_method_t *m, adapter_t *a) {
    TRY(adapter_load(a, &l->model, m->first_param, m->last_param));
    if (adapter_base(a) && adapter_base(a) != l->model.fingerprint)
        fprintf(stderr, "graft: warning: %s: was trained on other base weights than %s\n", adapter_path(a),
                l->model.path);
    return ST_OK;
}

static status_t open_adapters(const char *const *path, int n, attach_t *x) {
    int parts = 0;
    if (n > BUILD_MAX_HOOKS)
        return st_raise(ST_USAGE, "command line", "more than %d adapters at once", BUILD_MAX_HOOKS);
    for (int i = 0; i < n; i++) {
        TRY(adapter_open(path[i], &x->adapter[i]));
        x->n++;
        parts += adapter_parts(x->adapter[i]);
    }
    x->several = parts > 1;
    return ST_OK;
}

static status_t attach_all(const char *const *path, int n, attach_t *x, loaded_t *l) {
    TRY(open_adapters(path, n, x));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < adapter_parts(x->adapter[i]); k++) {
            adapter_select(x->adapter[i], k);
            TRY(attach_part(l, x, x->adapter[i]));
        }
    TRY(load_base(l, NULL, false));
    for (int i = 0, m = 0; i < n; i++)
        for (int k = 0; k < adapter_parts(x->adapter[i]); k++) {
            adapter_select(x->adapter[i], k);
            TRY(load_part(l, &l->method[m++], x->adapter[i]));
        }
    return ST_OK;
}

status_t loaded_open(const char *path, const char *const *adapter, int n, loaded_t *l) {
    attach_t x = {.n = 0};
    TRY(open_base(path, l));
    status_t st = attach_all(adapter, n, &x, l);
    l->model.params.scope = NULL;
    strbuf_release(&x.scope);
    for (int i = 0; i < x.n; i++) adapter_close(x.adapter[i]);
    return st;
}

/* A method's own learning rate is a multiple of the run's, so that both follow one schedule. */
static void set_rate(loaded_t *l, const loaded_method_t *m, const config_method_t *c, double common) {
    for (int i = m->first_param; c->learning_rate > 0 && i < m->last_param; i++)
        l->model.params.item[i].lr_scale *= c->learning_rate / common;
}

static status_t open_methods(const config_t *config, loaded_t *l) {
    strbuf_t scope = {0};
    status_t st = ST_OK;
    for (int i = 0; i < config->method_count; i++) {
        const config_method_t *c = &config->method[i];
        const method_t *method = method_find(c->type);
        TRY_GOTO(begin_method(l, method, config->method_count > 1, &scope), done);
        TRY_GOTO(method->open(c->cfg, &l->model, &l->method[l->n_method].self), done);
        TRY_GOTO(end_method(l), done);
        set_rate(l, &l->method[i], c, config->training.learning_rate);
    }
done:
    l->model.params.scope = NULL;
    strbuf_release(&scope);
    return st;
}

static status_t start_from(loaded_t *l, const loaded_method_t *m, const char *path) {
    adapter_t *a = NULL;
    TRY(adapter_open(path, &a));
    status_t st = ST_OK;
    if (m->method->start) {
        st = m->method->start(m->self, &l->model, a, m->first_param, m->last_param);
    } else {
        st = adapter_find(a, m->method->peft_type);
        if (st == ST_OK) st = adapter_load(a, &l->model, m->first_param, m->last_param);
    }
    adapter_close(a);
    return st;
}

status_t loaded_open_methods(const config_t *config, const loaded_t *base, loaded_t *l) {
    TRY(base ? share_base(base, l) : open_base(config->model.path, l));
    TRY(open_methods(config, l));
    TRY(load_base(l, base, true));
    const encoder_t encoder = encoder_of_tokenizer(l->tokenizer);
    const method_init_t in = {.encoder = &encoder, .backend = &backend_cpu, .seed = (uint64_t)config->training.seed};
    for (int i = 0; i < l->n_method; i++) {
        const loaded_method_t *m = &l->method[i];
        const char *from = m->method->init_from ? m->method->init_from(config->method[i].cfg) : NULL;
        TRY(from ? start_from(l, m, from) : m->method->init(m->self, &l->model, &in));
    }
    return ST_OK;
}

void loaded_close(loaded_t *l) {
    for (int i = 0; i < l->n_method; i++) l->method[i].method->close(l->method[i].self);
    virtual_release(&l->layout);
    model_close(&l->model);
    if (!l->borrowed) {
        tokenizer_close(l->tokenizer);
        weights_close(l->weights);
    }
    memset(l, 0, sizeof *l);
}
