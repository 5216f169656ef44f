/* LoRA (Hu et al. 2021, eq. 3; PEFT's semantics in peft-semantics.md 2.3): y = W x + s B A drop(x), s = lora_alpha / r,
 * or lora_alpha / sqrt(r) with use_rslora (Kalajdzievski 2023). A [r,in] starts uniform in +-1/sqrt(in) (kaiming with
 * a = sqrt 5), B [out,r] at zero, so that step 0 is the base model. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/lowrank.h"
#include "train/tape/initial.h"
#include "train/methods/method.h"
#include "train/methods/target.h"

typedef struct lora_cfg {
    int64_t r;
    double lora_alpha, lora_dropout;
    cfg_patterns_t target_modules;
    bool use_rslora;
    const char *init_from;
} lora_cfg_t;

static const cfg_field_t fields[] = {
    {.name = "r",
     .type = CFG_INT,
     .offset = offsetof(lora_cfg_t, r),
     .standard = "8",
     .min = 1,
     .max = 4096,
     .doc = "rank of A and B"},
    {.name = "lora_alpha",
     .type = CFG_REAL,
     .offset = offsetof(lora_cfg_t, lora_alpha),
     .standard = "8",
     .min = 0,
     .max = 1e6,
     .flags = CFG_ABOVE,
     .doc = "numerator of the scale lora_alpha / r"},
    {.name = "lora_dropout",
     .type = CFG_REAL,
     .offset = offsetof(lora_cfg_t, lora_dropout),
     .standard = "0.0",
     .min = 0,
     .max = 1,
     .flags = CFG_BELOW,
     .doc = "share of A's input dropped in training"},
    {.name = "target_modules",
     .type = CFG_PATTERNS,
     .offset = offsetof(lora_cfg_t, target_modules),
     .doc = "all-linear, a regular expression over whole module names, or a list of suffixes; default: PEFT's for the "
            "family"},
    {.name = "use_rslora",
     .type = CFG_BOOL,
     .offset = offsetof(lora_cfg_t, use_rslora),
     .standard = "false",
     .doc = "scale lora_alpha / sqrt(r)"},
    {.name = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(lora_cfg_t, init_from),
     .flags = CFG_FREE,
     .doc = "PEFT directory or checkpoint whose weights to start from"},
    {.name = NULL},
};

typedef struct lora_pair {
    int a, b; /* parameter indices, -1: not targeted */
    int64_t r;
    double scale;
} lora_pair_t;

typedef struct lora {
    lora_pair_t *pair; /* [n_site] */
    int64_t n_site;
    const site_t *site;
    double dropout, alpha;
    int64_t r; /* the largest */
    bool rslora;
} lora_t;

static void lora_close(void *self) {
    lora_t *l = self;
    if (!l) return;
    free(l->pair);
    free(l);
}

static double scale_of(double alpha, int64_t r, bool rslora) {
    return alpha / (rslora ? sqrt((double)r) : (double)r);
}

static status_t lora_new(const model_t *m, lora_t **out) {
    void *l, *pair;
    TRY(buf_calloc(&l, 1, sizeof(lora_t), "LoRA"));
    *out = l;
    (*out)->site = m->site;
    (*out)->n_site = m->n_site;
    TRY(buf_calloc(&pair, m->n_site, sizeof(lora_pair_t), "LoRA"));
    (*out)->pair = pair;
    for (int64_t i = 0; i < m->n_site; i++) (*out)->pair[i].a = (*out)->pair[i].b = -1;
    return ST_OK;
}

static void tensor_name(char *out, size_t n, const site_t *s, const char *which) {
    snprintf(out, n, "base_model.model.%s.lora_%s.weight", s->module, which);
}

static status_t declare_pair(lora_t *l, model_t *m, int64_t i, int64_t r) {
    const site_t *s = &m->site[i];
    lora_pair_t *p = &l->pair[i];
    char name[512];
    const int64_t a[2] = {r, s->in}, b[2] = {s->out, r};
    tensor_name(name, sizeof name, s, "A");
    TRY(param_declare(&m->params, name, 2, a, true, true, &p->a));
    tensor_name(name, sizeof name, s, "B");
    TRY(param_declare(&m->params, name, 2, b, true, true, &p->b));
    p->r = r;
    p->scale = scale_of(l->alpha, r, l->rslora);
    if (r > l->r) l->r = r;
    return ST_OK;
}

static status_t open_on_targets(lora_t *l, const lora_cfg_t *c, model_t *m) {
    void *hit;
    TRY(buf_calloc(&hit, m->n_site, sizeof(bool), "LoRA targets"));
    status_t st = target_sites(&c->target_modules, m, hit);
    for (int64_t i = 0; st == ST_OK && i < m->n_site; i++)
        if (((bool *)hit)[i]) st = declare_pair(l, m, i, c->r);
    free(hit);
    return st;
}

static status_t lora_open(const void *cfg, model_t *m, void **self) {
    const lora_cfg_t *c = cfg;
    lora_t *l = NULL;
    status_t st = ST_OK;
    TRY_GOTO(lora_new(m, &l), failed);
    l->alpha = c->lora_alpha;
    l->rslora = c->use_rslora;
    l->dropout = c->lora_dropout;
    TRY_GOTO(open_on_targets(l, c, m), failed);
    *self = l;
    return ST_OK;
failed:
    lora_close(l);
    return st;
}

/* What would change the mathematics and is not supported here. */
static status_t refuse_variants(const adapter_t *a) {
    static const char *const must_be_false[] = {"use_dora", "lora_bias", "use_qalora"};
    static const char *const must_be_empty[] = {"alpha_pattern",     "modules_to_save",   "trainable_token_indices",
                                                "target_parameters", "layer_replication", "alora_invocation_tokens"};
    const json_t *c = adapter_config(a);
    for (size_t i = 0; i < sizeof must_be_false / sizeof *must_be_false; i++)
        if (json_is_true(json_object_get(c, must_be_false[i])))
            return st_raise(ST_INPUT, adapter_path(a), "adapter_config: '%s' is not supported", must_be_false[i]);
    for (size_t i = 0; i < sizeof must_be_empty / sizeof *must_be_empty; i++) {
        const json_t *v = json_object_get(c, must_be_empty[i]);
        if (v && !json_is_null(v) && (json_object_size(v) || json_array_size(v) || !json_is_object(v)))
            return st_raise(ST_INPUT, adapter_path(a), "adapter_config: '%s' is not supported", must_be_empty[i]);
    }
    const char *bias = json_string_value(json_object_get(c, "bias"));
    if (bias && strcmp(bias, "none"))
        return st_raise(ST_INPUT, adapter_path(a), "adapter_config: bias '%s' is not supported", bias);
    return ST_OK;
}

static status_t lora_open_adapter(const adapter_t *a, model_t *m, void **self) {
    TRY(refuse_variants(a));
    lora_t *l = NULL;
    status_t st = ST_OK;
    TRY_GOTO(lora_new(m, &l), failed);
    const json_t *alpha = json_object_get(adapter_config(a), "lora_alpha");
    l->alpha = json_is_number(alpha) ? json_number_value(alpha) : 8.0;
    l->rslora = json_is_true(json_object_get(adapter_config(a), "use_rslora"));
    for (int64_t i = 0; i < m->n_site; i++) {
        char name[512];
        tensor_name(name, sizeof name, &m->site[i], "A");
        view_t v = adapter_shape(a, name);
        if (v.rank == 2) TRY_GOTO(declare_pair(l, m, i, v.dim[0]), failed);
    }
    if (!l->r) TRY_GOTO(st_raise(ST_INPUT, adapter_path(a), "holds no LoRA tensor for a linear of this model"), failed);
    *self = l;
    return ST_OK;
failed:
    lora_close(l);
    return st;
}

static status_t lora_init(void *self, model_t *m, const method_init_t *in) {
    const lora_t *l = self;
    for (int64_t i = 0; i < l->n_site; i++)
        if (l->pair[i].a >= 0)
            initial_uniform(&m->params.item[l->pair[i].a], 1.0 / sqrt((double)l->site[i].in), in->seed);
    return ST_OK;
}

static val_t lora_linear(void *self, build_t *b, const site_t *site, val_t x, val_t y) {
    const lora_t *l = self;
    int64_t i = site - l->site;
    const lora_pair_t *p = &l->pair[i];
    if (p->a < 0) return y;
    const lowrank_attr_t attr = {p->scale, b->options.with_grad ? l->dropout : 0.0, (uint32_t)i};
    const val_t in[] = {y, x, tape_param(b->tape, p->a), tape_param(b->tape, p->b),
                        attr.dropout > 0 ? b->key : VAL_NONE};
    return tape_emit(b->tape, OP_LOWRANK, site->module, 5, in, &attr, sizeof attr, NULL);
}

static hook_t lora_hook(void *self) {
    return (hook_t){.self = self, .linear = lora_linear};
}

static const char *lora_init_from(const void *cfg) {
    return ((const lora_cfg_t *)cfg)->init_from;
}

/* PEFT's target_modules as a list: leaf names when they name exactly the trained sites, else full module names. */
static status_t peft_targets(const lora_t *l, json_t *list) {
    bool leaves = true;
    for (int64_t i = 0; i < l->n_site; i++)
        for (int64_t k = 0; k < l->n_site; k++)
            if (!strcmp(l->site[i].role, l->site[k].role) && (l->pair[i].a < 0) != (l->pair[k].a < 0)) leaves = false;
    for (int64_t i = 0; i < l->n_site; i++) {
        if (l->pair[i].a < 0) continue;
        const char *name = leaves ? l->site[i].role : l->site[i].module;
        bool known = false;
        for (size_t k = 0; k < json_array_size(list); k++)
            known |= !strcmp(json_string_value(json_array_get(list, k)), name);
        if (!known && json_array_append_new(list, json_string(name))) return st_nomem("adapter_config", 0);
    }
    return ST_OK;
}

/* PEFT's rank_pattern: the modules whose rank is not the largest, by full name. */
static status_t peft_ranks(const lora_t *l, json_t *ranks) {
    for (int64_t i = 0; i < l->n_site; i++)
        if (l->pair[i].a >= 0 && l->pair[i].r != l->r &&
            json_object_set_new(ranks, l->site[i].module, json_integer((json_int_t)l->pair[i].r)))
            return st_nomem("adapter_config", 0);
    return ST_OK;
}

static status_t lora_describe(const void *self, const model_t *m, json_t **out) {
    const lora_t *l = self;
    json_t *targets = json_array(), *ranks = json_object();
    status_t st = targets && ranks ? peft_targets(l, targets) : st_nomem("adapter_config", 0);
    if (st == ST_OK) st = peft_ranks(l, ranks);
    bool conv1d = false;
    for (int64_t i = 0; i < l->n_site; i++) conv1d |= l->pair[i].a >= 0 && l->site[i].conv1d;
    /* no peft_version: releases before it existed refuse it as an unknown key. lora_alpha is an integer where it can be
     * one: strict readers type it so */
    bool whole = l->alpha == floor(l->alpha) && l->alpha < 1e9;
    json_t *c =
        st == ST_OK
            ? json_pack("{s:s, s:s, s:s, s:n, s:b, s:n, s:i, s:o, s:f, s:O, s:n, s:s, s:b, s:b, s:b, s:O, s:{}, "
                        "s:b, s:n, s:n}",
                        "peft_type", "LORA", "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path, "revision",
                        "inference_mode", 1, "auto_mapping", "r", (int)l->r, "lora_alpha",
                        whole ? json_integer((json_int_t)l->alpha) : json_real(l->alpha), "lora_dropout", l->dropout,
                        "target_modules", targets, "modules_to_save", "bias", "none", "fan_in_fan_out", (int)conv1d,
                        "use_rslora", (int)l->rslora, "use_dora", 0, "rank_pattern", ranks, "alpha_pattern",
                        "init_lora_weights", 1, "layers_to_transform", "layers_pattern")
            : NULL;
    json_decref(targets);
    json_decref(ranks);
    if (st == ST_OK && !c) st = st_nomem("adapter_config", 0);
    *out = c;
    return st;
}

/* What the engines make of the configuration (peft-semantics.md 2.6). */
static status_t lora_engines(const void *self, const model_t *m, FILE *out) {
    const lora_t *l = self;
    bool conv1d = false, ranks = false;
    (void)m;
    for (int64_t i = 0; i < l->n_site; i++) {
        if (l->pair[i].a < 0) continue;
        conv1d |= l->site[i].conv1d;
        ranks |= l->pair[i].r != l->r;
    }
    if (conv1d)
        fputs("vLLM: no, it has no adapters for GPT-2; use merged-safetensors\n", out);
    else if (ranks)
        fputs("vLLM: no, it takes one rank for all modules; use merged-safetensors\n", out);
    else
        fprintf(out, "vLLM: yes, with --enable-lora and --max-lora-rank at least %lld%s\n", (long long)l->r,
                l->rslora ? " (a version that knows use_rslora)" : "");
    if (conv1d)
        fputs("llama.cpp: no, its converter transposes GPT-2's matrices but not the adapter's; use gguf-adapter\n",
              out);
    else if (l->rslora)
        fputs("llama.cpp: no, its converter ignores use_rslora and would scale wrongly; use gguf-adapter\n", out);
    else
        fputs("llama.cpp: yes, after its convert_lora_to_gguf.py; gguf-adapter needs no converter\n", out);
    return ST_OK;
}

static bool lora_low_rank(const void *self, const model_t *m, const site_t *site, low_rank_t *out) {
    const lora_t *l = self;
    const lora_pair_t *p = &l->pair[site - l->site];
    if (p->a < 0) return false;
    *out = (low_rank_t){m->params.item[p->a].value.data, m->params.item[p->b].value.data, p->r, p->scale};
    return true;
}

static status_t lora_merge(const void *self, const model_t *m, const site_t *site, float *w) {
    low_rank_t p;
    if (!lora_low_rank(self, m, site, &p)) return ST_OK;
    for (int64_t o = 0; o < site->out; o++)
        for (int64_t k = 0; k < p.r; k++) {
            float f = (float)p.scale * p.b[o * p.r + k];
            for (int64_t i = 0; i < site->in; i++) w[o * site->in + i] += f * p.a[k * site->in + i];
        }
    return ST_OK;
}

const method_t method_lora = {
    .section = {"lora", fields, sizeof(lora_cfg_t)},
    .peft_type = "LORA",
    .doc = "low-rank change of linears",
    .open = lora_open,
    .open_adapter = lora_open_adapter,
    .close = lora_close,
    .init = lora_init,
    .hook = lora_hook,
    .init_from = lora_init_from,
    .describe = lora_describe,
    .engines = lora_engines,
    .merge = lora_merge,
    .low_rank = lora_low_rank,
};
