/* Prefix tuning (Li & Liang 2021, section 4; PEFT's semantics in peft-semantics.md 2.2, 2.4): p keys and values in
 * front of every layer's own, direct or made by a two-layer tanh network. With `prompts`, one prefix for every value of
 * a field of the examples, all trained in one run. */
#include <stddef.h>
#include "train/methods/prefix_table.h"

typedef struct prefix_tuning_cfg {
    prefix_cfg_t prefix;
    cfg_fields_t prompts;
} prefix_tuning_cfg_t;

static const cfg_field_t fields[] = {
    PREFIX_KEYS(prefix_tuning_cfg_t, "keys and values in front of every layer's own"),
    {.name = "prompts",
     .type = CFG_FIELDS,
     .offset = offsetof(prefix_tuning_cfg_t, prompts),
     .doc = "{field, values}: one prefix for every value of this field of the examples"},
    {.name = NULL},
};

static status_t add_blocks(const void *cfg, prefix_table_t *t) {
    const prefix_tuning_cfg_t *c = cfg;
    const cfg_choice_field_t *f = c->prompts.items;
    if (!c->prompts.count) return prefix_table_add(t, NULL, NULL, 0, c->prefix.num_virtual_tokens, false);
    if (c->prompts.count > 1)
        return st_raise(ST_USAGE, "method.prompts",
                        "names %d fields; one chooses the prefix, so name one, or use "
                        "control_prefix",
                        c->prompts.count);
    if (f->num_virtual_tokens)
        return st_raise(ST_USAGE, "method.prompts",
                        "num_virtual_tokens is a key of the method, not of the field; move it there");
    return prefix_table_add(t, f->field, f->values.items, f->values.count, c->prefix.num_virtual_tokens, false);
}

static status_t prefix_open(const void *cfg, model_t *m, void **self) {
    return prefix_table_train(cfg, &((const prefix_tuning_cfg_t *)cfg)->prefix, add_blocks, m, self);
}

static status_t prefix_open_adapter(const adapter_t *a, model_t *m, void **self) {
    prefix_table_t *t;
    TRY(prefix_table_open_adapter(a, true, m, &t));
    *self = t;
    return ST_OK;
}

static const char *prefix_init_from(const void *cfg) {
    return ((const prefix_tuning_cfg_t *)cfg)->prefix.init_from;
}

static status_t prefix_describe(const void *self, const model_t *m, json_t **out) {
    return prefix_table_describe(self, m, "PREFIX_TUNING", out);
}

const method_t method_prefix_tuning = {
    .section = {"prefix_tuning", fields, sizeof(prefix_tuning_cfg_t)},
    .peft_type = "PREFIX_TUNING",
    .doc = "trained keys and values in front of every layer",
    .open = prefix_open,
    .open_adapter = prefix_open_adapter,
    .close = prefix_table_close,
    .place = prefix_table_place,
    .init = prefix_table_init,
    .hook = prefix_table_hook,
    .init_from = prefix_init_from,
    .describe = prefix_describe,
    .result = prefix_table_result,
    .engines = prefix_table_engines,
};
