/* DEMix layers (Gururangan et al. 2021, section 2): every linear of the feed-forward layers has one expert for every
 * domain, and an example goes through the experts of its own. Here the experts alone are trained; together with `full`
 * what the domains share is trained, too. All experts start as the base's own feed-forward weights, so that step 0 is
 * the base model. An expert is block e of the rows of `<module>.experts.weight` [E out, in] and `.bias` [E out]. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/routed_linear.h"
#include "train/methods/method.h"

typedef struct demix_cfg {
    cfg_fields_t domains;
    const char *init_from;
} demix_cfg_t;

static const cfg_field_t fields[] = {
    {.name = "domains",
     .type = CFG_FIELDS,
     .offset = offsetof(demix_cfg_t, domains),
     .flags = CFG_REQUIRED,
     .doc = "{field, values}: one expert for every value of this field of the examples"},
    {.name = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(demix_cfg_t, init_from),
     .flags = CFG_FREE,
     .doc = "checkpoint whose experts to start from"},
    {.name = NULL},
};

enum { MAX_DOMAINS = 1024 };

typedef struct demix_expert {
    int weight, bias; /* parameters, -1: none */
} demix_expert_t;

typedef struct demix {
    char *field, **value; /* [domains] */
    int domains;
    demix_expert_t *expert; /* [n_site] */
    int64_t n_site;
    const site_t *site;
    int layout_field;
} demix_t;

static void demix_close(void *self) {
    demix_t *d = self;
    if (!d) return;
    for (int i = 0; d->value && i < d->domains; i++) free(d->value[i]);
    free(d->value);
    free(d->field);
    free(d->expert);
    free(d);
}

static status_t fill_names(demix_t *d, const char *field, const char *const *value, int n) {
    void *memory;
    if (!(d->field = buf_strdup(field))) return ST_NOMEM;
    TRY(buf_calloc(&memory, n, sizeof *d->value, "domains"));
    d->value = memory;
    for (; d->domains < n; d->domains++)
        if (!(d->value[d->domains] = buf_strdup(value[d->domains]))) return ST_NOMEM;
    return ST_OK;
}

static void tensor_name(char *out, size_t n, const site_t *s, const char *which) {
    snprintf(out, n, "%s.experts.%s", s->module, which);
}

static status_t declare_site(demix_t *d, model_t *m, int64_t i) {
    const site_t *s = &m->site[i];
    demix_expert_t *e = &d->expert[i];
    int64_t dim[2] = {s->out, s->in};
    char name[512];
    if (__builtin_mul_overflow(dim[0], (int64_t)d->domains, &dim[0]))
        return st_raise(ST_USAGE, "method.domains", "%d domains are too many for this model", d->domains);
    tensor_name(name, sizeof name, s, "weight");
    TRY(param_declare(&m->params, name, 2, dim, true, true, &e->weight));
    param_idle(&m->params, s->weight);
    if (s->bias < 0) return ST_OK;
    tensor_name(name, sizeof name, s, "bias");
    param_idle(&m->params, s->bias);
    return param_declare(&m->params, name, 1, dim, true, false, &e->bias);
}

static status_t declare(demix_t *d, model_t *m) {
    void *memory;
    bool any = false;
    TRY(buf_calloc(&memory, m->n_site, sizeof *d->expert, "experts"));
    d->expert = memory;
    d->site = m->site;
    d->n_site = m->n_site;
    for (int64_t i = 0; i < m->n_site; i++) {
        d->expert[i].weight = d->expert[i].bias = -1;
        if (!m->site[i].feed_forward) continue;
        TRY(declare_site(d, m, i));
        any = true;
    }
    return any ? ST_OK : st_raise(ST_USAGE, m->path, "has no feed-forward layers that demix could replace");
}

/* The names are complete or an error; takes part of every way to open. */
static status_t demix_new(const char *field, const char *const *value, int n, model_t *m, void **self) {
    void *memory;
    TRY(buf_calloc(&memory, 1, sizeof(demix_t), "DEMix"));
    demix_t *d = memory;
    d->layout_field = -1;
    status_t st = fill_names(d, field, value, n);
    if (st == ST_OK) st = declare(d, m);
    if (st != ST_OK) {
        demix_close(d);
        return st;
    }
    *self = d;
    return ST_OK;
}

static status_t demix_open(const void *cfg, model_t *m, void **self) {
    const demix_cfg_t *c = cfg;
    const cfg_choice_field_t *f = c->domains.items;
    if (c->domains.count != 1)
        return st_raise(ST_USAGE, "method.domains", "names %d fields; one chooses the domain", c->domains.count);
    if (f->num_virtual_tokens)
        return st_raise(ST_USAGE, "method.domains", "domains have no virtual tokens; remove num_virtual_tokens");
    if (f->values.count < 2 || f->values.count > MAX_DOMAINS)
        return st_raise(ST_USAGE, "method.domains", "has %d values; it must have 2 to %d domains", f->values.count,
                        MAX_DOMAINS);
    return demix_new(f->field, f->values.items, f->values.count, m, self);
}

static status_t read_names(const adapter_t *a, const json_t *values, const char **name) {
    for (size_t i = 0; i < json_array_size(values); i++)
        if (!(name[i] = json_string_value(json_array_get(values, i))))
            return st_raise(ST_INPUT, adapter_path(a), "graft.domains.values must be texts");
    return ST_OK;
}

static status_t demix_open_adapter(const adapter_t *a, model_t *m, void **self) {
    const json_t *domains = json_object_get(json_object_get(adapter_config(a), "graft"), "domains"),
                 *values = json_object_get(domains, "values");
    const char *field = json_string_value(json_object_get(domains, "field"));
    size_t n = json_array_size(values);
    if (!field || n < 2 || n > MAX_DOMAINS)
        return st_raise(ST_INPUT, adapter_path(a), "graft.domains must be {field, values} with 2 to %d values",
                        MAX_DOMAINS);
    void *name;
    TRY(buf_calloc(&name, (int64_t)n, sizeof(const char *), "domains"));
    status_t st = read_names(a, values, name);
    if (st == ST_OK) st = demix_new(field, name, (int)n, m, self);
    free(name);
    return st;
}

static status_t demix_place(void *self, virtual_layout_t *layout) {
    demix_t *d = self;
    return virtual_add_field(layout, d->field, (const char *const *)d->value, d->domains, false, &d->layout_field);
}

/* The base's tensor in every block. */
static void repeat(const demix_t *d, model_t *m, int from, int to) {
    const view_t *v = &m->params.item[from].value;
    char *out = m->params.item[to].value.data;
    size_t bytes = view_bytes(v);
    for (int e = 0; e < d->domains; e++) memcpy(out + (size_t)e * bytes, v->data, bytes);
}

static status_t demix_init(void *self, model_t *m, const method_init_t *in) {
    const demix_t *d = self;
    (void)in;
    for (int64_t i = 0; i < d->n_site; i++) {
        if (d->expert[i].weight >= 0) repeat(d, m, d->site[i].weight, d->expert[i].weight);
        if (d->expert[i].bias >= 0) repeat(d, m, d->site[i].bias, d->expert[i].bias);
    }
    return ST_OK;
}

static val_t demix_replace(void *self, build_t *b, const site_t *site, val_t x) {
    const demix_t *d = self;
    const demix_expert_t *e = &d->expert[site - d->site];
    if (e->weight < 0) return VAL_NONE;
    const routed_linear_attr_t attr = {d->domains};
    const val_t in[] = {x, tape_param(b->tape, e->weight), e->bias < 0 ? VAL_NONE : tape_param(b->tape, e->bias), b->cu,
                        m_label(b, d->layout_field)};
    return tape_emit(b->tape, OP_ROUTED_LINEAR, site->module, 5, in, &attr, sizeof attr, NULL);
}

static hook_t demix_hook(void *self) {
    return (hook_t){.self = self, .replace = demix_replace};
}

static const char *demix_init_from(const void *cfg) {
    return ((const demix_cfg_t *)cfg)->init_from;
}

static status_t demix_describe(const void *self, const model_t *m, json_t **out) {
    const demix_t *d = self;
    json_t *values = json_array();
    for (int i = 0; values && i < d->domains; i++)
        if (json_array_append_new(values, json_string(d->value[i]))) {
            json_decref(values);
            values = NULL;
        }
    *out = values
               ? json_pack("{s:s, s:s, s:s, s:{s:{s:s, s:o}}}", "peft_type", "DEMIX", "task_type", "CAUSAL_LM",
                           "base_model_name_or_path", m->path, "graft", "domains", "field", d->field, "values", values)
               : NULL;
    return *out ? ST_OK : st_nomem("description", 0);
}

/* Experts in another order would be read as each other's. */
static status_t demix_start(void *self, model_t *m, adapter_t *a, int first, int last) {
    const demix_t *d = self;
    TRY(adapter_find(a, "DEMIX"));
    const json_t *domains = json_object_get(json_object_get(adapter_config(a), "graft"), "domains"),
                 *values = json_object_get(domains, "values");
    bool same = json_array_size(values) == (size_t)d->domains;
    for (int i = 0; same && i < d->domains; i++) {
        const char *name = json_string_value(json_array_get(values, (size_t)i));
        same = name && !strcmp(name, d->value[i]);
    }
    if (!same)
        return st_raise(ST_INPUT, adapter_path(a),
                        "holds other experts than method.domains asks for; give the same values in the same order");
    return adapter_load(a, m, first, last);
}

static status_t demix_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out) {
    (void)choice;
    out->peft_lacks = "PEFT has no domain experts; use merged-safetensors with --condition for one domain's model";
    return demix_describe(self, m, &out->peft_config);
}

static status_t raise_unchosen(const demix_t *d) {
    strbuf_t names = {0};
    status_t st = ST_OK;
    for (int i = 0; st == ST_OK && i < d->domains; i++) st = strbuf_addf(&names, "%s%s", i ? ", " : "", d->value[i]);
    if (st == ST_OK)
        st = st_raise(ST_USAGE, "export",
                      "an export holds one domain's model; choose it with --condition %s=..., one of: %s", d->field,
                      names.data);
    strbuf_release(&names);
    return st;
}

static void take_block(model_t *m, int from, int to, int32_t block) {
    const view_t *v = &m->params.item[to].value;
    size_t bytes = view_bytes(v);
    memcpy(v->data, (const char *)m->params.item[from].value.data + (size_t)block * bytes, bytes);
}

static status_t demix_settle(void *self, model_t *m, const method_choice_t *choice) {
    const demix_t *d = self;
    int32_t label = choice->label ? choice->label[d->layout_field] : -1;
    if (label < 0 || label >= d->domains) return raise_unchosen(d);
    for (int64_t i = 0; i < d->n_site; i++) {
        if (d->expert[i].weight >= 0) take_block(m, d->expert[i].weight, d->site[i].weight, label);
        if (d->expert[i].bias >= 0) take_block(m, d->expert[i].bias, d->site[i].bias, label);
    }
    return ST_OK;
}

static status_t demix_merge(const void *self, const model_t *m, const site_t *site, float *w) {
    (void)self, (void)m, (void)site, (void)w; /* settle has put the expert in place */
    return ST_OK;
}

const method_t method_demix = {
    .section = {"demix", fields, sizeof(demix_cfg_t)},
    .peft_type = "DEMIX",
    .doc = "a feed-forward expert for every domain",
    .open = demix_open,
    .open_adapter = demix_open_adapter,
    .close = demix_close,
    .place = demix_place,
    .init = demix_init,
    .hook = demix_hook,
    .init_from = demix_init_from,
    .start = demix_start,
    .describe = demix_describe,
    .result = demix_result,
    .settle = demix_settle,
    .merge = demix_merge,
};
