/* Prefix tuning (Li & Liang 2021, section 4; PEFT's semantics in peft-semantics.md 2.2, 2.4): p keys and values in
 * front of every layer's own, direct or made by a two-layer tanh network. With `prompts`, one prefix for every value of
 * a field of the examples, all trained in one run. */
#include <stddef.h>
#include "train/methods/prefix_table.h"

typedef struct prefix_tuning_cfg {
    int64_t num_virtual_tokens, encoder_hidden_size;
    bool prefix_projection;
    int init_weights; /* prefix_init_t */
    const char *init_text, *init_from;
    cfg_fields_t prompts;
} prefix_tuning_cfg_t;

#define MEMBER(name) .offset = offsetof(prefix_tuning_cfg_t, name)
static const cfg_field_t fields[] = {
    {.name = "num_virtual_tokens",
     .type = CFG_INT,
     MEMBER(num_virtual_tokens),
     .min = 1,
     .max = PREFIX_MAX_TOKENS,
     .flags = CFG_REQUIRED,
     .doc = "keys and values in front of every layer's own"},
    {.name = "prefix_projection",
     .type = CFG_BOOL,
     MEMBER(prefix_projection),
     .standard = "false",
     .doc = "make them by a two-layer tanh network, which exports fold away"},
    {.name = "encoder_hidden_size",
     .type = CFG_INT,
     MEMBER(encoder_hidden_size),
     .min = 1,
     .max = PREFIX_MAX_TOKENS,
     .doc = "hidden size of that network; default: the width of a key"},
    {.name = "init_weights",
     .type = CFG_CHOICE,
     MEMBER(init_weights),
     .standard = "random",
     .choices = PREFIX_INIT_CHOICES,
     .doc = "normal random values, zero, or the keys and values of init_text"},
    {.name = "init_text",
     .type = CFG_STRING,
     MEMBER(init_text),
     .doc = "text whose keys and values in the base model are the start; cut or repeated to num_virtual_tokens"},
    {.name = "prompts",
     .type = CFG_FIELDS,
     MEMBER(prompts),
     .doc = "{field, values}: one prefix for every value of this field of the examples"},
    {.name = "init_from",
     .type = CFG_PATH,
     MEMBER(init_from),
     .flags = CFG_FREE,
     .doc = "PEFT directory or checkpoint whose weights to start from"},
    {.name = NULL},
};

static status_t add_blocks(const prefix_tuning_cfg_t *c, prefix_table_t *t) {
    const cfg_choice_field_t *f = c->prompts.items;
    if (!c->prompts.count) return prefix_table_add(t, NULL, NULL, 0, c->num_virtual_tokens, false);
    if (c->prompts.count > 1)
        return st_raise(ST_USAGE, "method.prompts",
                        "names %d fields; one chooses the prefix, so name one, or use "
                        "control_prefix",
                        c->prompts.count);
    if (f->num_virtual_tokens)
        return st_raise(ST_USAGE, "method.prompts",
                        "num_virtual_tokens is a key of the method, not of the field; move it there");
    return prefix_table_add(t, f->field, f->values.items, f->values.count, c->num_virtual_tokens, false);
}

static status_t prefix_open(const void *cfg, model_t *m, void **self) {
    const prefix_tuning_cfg_t *c = cfg;
    const prefix_choice_t how = {c->prefix_projection, c->encoder_hidden_size, (prefix_init_t)c->init_weights,
                                 c->init_text};
    prefix_table_t *t = NULL;
    status_t st = prefix_table_choose(m, &how, &t);
    if (st == ST_OK) st = add_blocks(c, t);
    if (st == ST_OK) st = prefix_table_declare(t, m);
    if (st == ST_OK)
        *self = t;
    else
        prefix_table_close(t);
    return st;
}

static status_t prefix_open_adapter(const adapter_t *a, model_t *m, void **self) {
    prefix_table_t *t;
    TRY(prefix_table_open_adapter(a, true, m, &t));
    *self = t;
    return ST_OK;
}

static const char *prefix_init_from(const void *cfg) {
    return ((const prefix_tuning_cfg_t *)cfg)->init_from;
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
