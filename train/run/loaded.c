#include "train/run/loaded.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/objectives/objective.h"
#include "train/run/base.h"
#include "train/run/registry.h"

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
    if (m->method->trains_base) { /* the base's parameters come first */
        m->first_param = 0;
        m->last_param = (int)l->model.n_weight;
    }
    l->model.params.scope = NULL;
    l->hook[l->n_method++] = m->method->hook(m->self); /* from here on loaded_close releases it */
    return m->method->place ? m->method->place(m->self, &l->layout) : ST_OK;
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

/* The tokens of the one adapter that adds any. */
static status_t find_special(const attach_t *x, loaded_t *l) {
    for (int i = 0; i < x->n; i++) {
        special_t one;
        status_t st = special_of_adapter(x->adapter[i], &one);
        if (st == ST_OK && one.n && l->special.n)
            st = st_raise(
                ST_USAGE, adapter_path(x->adapter[i]),
                "is the second adapter that adds tokens (special_tokens), whose ids would be the same; give one");
        if (st == ST_OK && one.n)
            l->special = one;
        else
            special_release(&one);
        TRY(st);
    }
    return ST_OK;
}

static status_t attach_all(const base_source_t *source, attach_t *x, loaded_t *l) {
    int n = x->n;
    TRY(find_special(x, l));
    TRY(base_open(source, l));
    for (int i = 0; i < n; i++) TRY(adapter_bind(x->adapter[i], &l->model));
    for (int i = 0; i < n; i++)
        for (int k = 0; k < adapter_parts(x->adapter[i]); k++) {
            adapter_select(x->adapter[i], k);
            TRY(attach_part(l, x, x->adapter[i]));
        }
    TRY(base_load(l, NULL, false));
    for (int i = 0; i < n; i++) TRY(special_take(&l->special, l->tokenizer, &l->model, x->adapter[i]));
    for (int i = 0, m = 0; i < n; i++)
        for (int k = 0; k < adapter_parts(x->adapter[i]); k++) {
            adapter_select(x->adapter[i], k);
            TRY(load_part(l, &l->method[m++], x->adapter[i]));
        }
    return ST_OK;
}

static status_t open_on(const base_source_t *source, const char *const *adapter, int n, loaded_t *l) {
    attach_t x = {.n = 0};
    status_t st = open_adapters(adapter, n, &x);
    if (st == ST_OK) st = attach_all(source, &x, l);
    l->model.params.scope = NULL;
    strbuf_release(&x.scope);
    for (int i = 0; i < x.n; i++) adapter_close(x.adapter[i]);
    return st;
}

status_t loaded_open(const char *path, const char *const *adapter, int n, loaded_t *l) {
    config_t config;
    bool run;
    memset(&config, 0, sizeof config);
    TRY(base_find_run(path, &config, &run));
    base_source_t source = run ? base_of_config(&config) : (base_source_t){.path = path};
    status_t st = run && !n ? open_on(&source, &path, 1, l) : open_on(&source, adapter, n, l);
    config_release(&config);
    return st;
}

/* The base of a checkpoint of ours is in its configuration, for others a path is known at most. */
static status_t open_on_own(const adapter_t *a, const char *path, loaded_t *l) {
    config_t config;
    memset(&config, 0, sizeof config);
    const char *yaml = adapter_run_config(a);
    if (yaml) TRY(config_parse(path, yaml, strlen(yaml), NULL, 0, registry_methods(), &config));
    base_source_t source = {.path = adapter_base_path(a)};
    if (config.model.config) source = base_of_config(&config);
    status_t st =
        source.path || source.config
            ? open_on(&source, &path, 1, l)
            : st_raise(ST_USAGE, path, "does not say which base it was trained on; name it with --model PATH");
    config_release(&config);
    return st;
}

status_t loaded_open_adapter(const char *path, loaded_t *l) {
    adapter_t *a = NULL;
    TRY(adapter_open(path, &a));
    status_t st = open_on_own(a, path, l);
    adapter_close(a);
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
    status_t st = adapter_bind(a, &l->model);
    if (st == ST_OK) st = special_take(&l->special, l->tokenizer, &l->model, a);
    if (st == ST_OK && m->method->start) {
        st = m->method->start(m->self, &l->model, a, m->first_param, m->last_param);
    } else if (st == ST_OK) {
        st = adapter_find(a, m->method->peft_type);
        if (st == ST_OK) st = adapter_load(a, &l->model, m->first_param, m->last_param);
    }
    adapter_close(a);
    return st;
}

/* Stages with the same objective share its tensors. */
static status_t open_goals(const config_t *config, loaded_t *l) {
    void *p;
    int n = config->stage_count ? config->stage_count : 1;
    TRY(buf_calloc(&p, n, sizeof *l->goal, "objectives"));
    l->goal = p;
    for (; l->n_goal < n; l->n_goal++) {
        const goal_t *same = NULL;
        const config_objective_t *o = config->stage_count ? &config->stage[l->n_goal].objective : &config->objective;
        for (int i = 0; i < l->n_goal; i++)
            if (!strcmp(config->stage[i].objective.type, o->type)) same = &l->goal[i];
        TRY(objective_open(o, &l->model, same, &l->goal[l->n_goal]));
    }
    return ST_OK;
}

status_t loaded_open_methods(const config_t *config, const loaded_t *base, loaded_t *l) {
    const base_source_t source = base_of_config(config);
    if (!base) TRY(special_of_config(config, &l->special));
    TRY(base ? base_share(base, l) : base_open(&source, l));
    TRY(open_methods(config, l));
    TRY(open_goals(config, l));
    if (config->conditioning.train_special_tokens) TRY(model_train_new(&l->model));
    TRY(base_load(l, base, true));
    const encoder_t encoder = encoder_of_tokenizer(l->tokenizer);
    const method_init_t in = {.encoder = &encoder, .backend = &backend_cpu, .seed = (uint64_t)config->training.seed};
    for (int i = 0; i < l->n_method; i++) {
        const loaded_method_t *m = &l->method[i];
        const char *from = m->method->init_from ? m->method->init_from(config->method[i].cfg) : NULL;
        TRY(from ? start_from(l, m, from) : m->method->init(m->self, &l->model, &in));
    }
    return ST_OK;
}

status_t loaded_place(loaded_t *l, const compute_t *where) {
    l->compute = *where;
    return param_set_place(&l->model.params, where->device, where->backend);
}

const backend_t *loaded_backend(const loaded_t *l) {
    return l->compute.backend ? l->compute.backend : &backend_cpu;
}

void loaded_close(loaded_t *l) {
    free(l->goal);
    for (int i = 0; i < l->n_method; i++) l->method[i].method->close(l->method[i].self);
    virtual_release(&l->layout);
    model_close(&l->model);
    if (!l->borrowed) {
        tokenizer_close(l->tokenizer);
        special_release(&l->special);
        weights_close(l->weights);
        json_decref(l->config);
        free(l->tokenizer_dir);
    }
    memset(l, 0, sizeof *l);
}
