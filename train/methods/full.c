/* Full fine-tuning: base weights are trained themselves, all of them or those whose names match. ["bias"] is BitFit
 * (Ben Zaken et al. 2022, section 2). A tied head is one tensor with the gradient of both its uses. The method adds
 * nothing to the model, so step 0 is the base model. Weight decay leaves biases and norm weights out: the families
 * declare them so. PEFT has no such method; the type FULL is found in checkpoints alone. */
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/methods/method.h"
#include "train/methods/target.h"

typedef struct full_cfg {
    cfg_patterns_t train;
    const char *init_from;
} full_cfg_t;

static const cfg_field_t fields[] = {
    {.name = "train",
     .type = CFG_PATTERNS,
     .offset = offsetof(full_cfg_t, train),
     .doc = "which weights: a regular expression over whole tensor names, or a list of suffixes; default: all"},
    {.name = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(full_cfg_t, init_from),
     .flags = CFG_FREE,
     .doc = "checkpoint of a full run whose weights to start from"},
    {.name = NULL},
};

static status_t train_matching(const cfg_patterns_t *patterns, model_t *m, const char **name, bool *hit) {
    const target_names_t t = {"method.train", "tensor", name, m->n_weight};
    for (int64_t i = 0; i < m->n_weight; i++) name[i] = m->weight[i].hf;
    TRY(target_match(patterns, &t, hit));
    for (int64_t i = 0; i < m->n_weight; i++)
        if (hit[i]) param_train(&m->params, m->weight[i].param);
    return ST_OK;
}

static status_t full_open(const void *cfg, model_t *m, void **self) {
    const full_cfg_t *c = cfg;
    *self = m; /* what is trained stands in the parameters: there is nothing else to keep */
    if (!c->train.regex && !c->train.count) {
        for (int64_t i = 0; i < m->n_weight; i++) param_train(&m->params, m->weight[i].param);
        return ST_OK;
    }
    void *name, *hit = NULL;
    TRY(buf_calloc(&name, m->n_weight, sizeof(char *), "tensor names"));
    status_t st = buf_calloc(&hit, m->n_weight, sizeof(bool), "trained tensors");
    if (st == ST_OK) st = train_matching(&c->train, m, name, hit);
    free(name);
    free(hit);
    return st;
}

static status_t full_open_adapter(const adapter_t *a, model_t *m, void **self) {
    bool any = false;
    *self = m;
    for (int64_t i = 0; i < m->n_weight; i++) {
        if (!adapter_shape(a, m->weight[i].hf).rank) continue;
        param_train(&m->params, m->weight[i].param);
        any = true;
    }
    return any ? ST_OK : st_raise(ST_INPUT, adapter_path(a), "holds no weight of this model");
}

static void full_close(void *self) {
    (void)self;
}

static status_t full_init(void *self, model_t *m, const method_init_t *in) {
    (void)self, (void)m, (void)in; /* the base's weights are the initial ones */
    return ST_OK;
}

static hook_t full_hook(void *self) {
    return (hook_t){.self = self};
}

static const char *full_init_from(const void *cfg) {
    return ((const full_cfg_t *)cfg)->init_from;
}

static status_t full_describe(const void *self, const model_t *m, json_t **out) {
    (void)self;
    *out =
        json_pack("{s:s, s:s, s:s}", "peft_type", "FULL", "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path);
    return *out ? ST_OK : st_nomem("description", 0);
}

static status_t full_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out) {
    (void)choice;
    out->peft_lacks = "whole weights are no adapter; use merged-safetensors";
    return full_describe(self, m, &out->peft_config);
}

static status_t full_merge(const void *self, const model_t *m, const site_t *site, float *w) {
    (void)self, (void)m, (void)site, (void)w; /* the weights are those of the model already */
    return ST_OK;
}

const method_t method_full = {
    .section = {"full", fields, sizeof(full_cfg_t)},
    .peft_type = "FULL",
    .doc = "the base's own weights",
    .trains_base = true,
    .open = full_open,
    .open_adapter = full_open_adapter,
    .close = full_close,
    .init = full_init,
    .hook = full_hook,
    .init_from = full_init_from,
    .describe = full_describe,
    .result = full_result,
    .merge = full_merge,
};
