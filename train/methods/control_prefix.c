/* Control Prefixes (Clive et al. 2022): the prefix of an example is [rows of its label of attribute 1; ...; of
 * attribute m; general rows], all direct or all through one projection. Without a label, or with one that is not
 * listed, an example takes rows whose input of the projection is zero (zero keys and values in the direct form), so
 * that its positions stay the same. */
#include <stddef.h>
#include "train/methods/prefix_table.h"

typedef struct control_prefix_cfg {
    int64_t num_virtual_tokens, encoder_hidden_size;
    bool prefix_projection;
    int init_weights; /* prefix_init_t */
    const char *init_text, *init_from;
    cfg_fields_t attributes;
} control_prefix_cfg_t;

#define MEMBER(name) .offset = offsetof(control_prefix_cfg_t, name)
static const cfg_field_t fields[] = {
    {.name = "num_virtual_tokens",
     .type = CFG_INT,
     MEMBER(num_virtual_tokens),
     .min = 1,
     .max = PREFIX_MAX_TOKENS,
     .flags = CFG_REQUIRED,
     .doc = "keys and values for every example, behind those of its labels"},
    {.name = "attributes",
     .type = CFG_FIELDS,
     MEMBER(attributes),
     .flags = CFG_REQUIRED,
     .doc = "list of {field, values, num_virtual_tokens}: keys and values for every value of a field of the examples"},
    {.name = "prefix_projection",
     .type = CFG_BOOL,
     MEMBER(prefix_projection),
     .standard = "false",
     .doc = "make all of them by one two-layer tanh network, which exports fold away"},
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
     .doc = "normal random values, zero, or (the labels' rows zero) the keys and values of init_text"},
    {.name = "init_text",
     .type = CFG_STRING,
     MEMBER(init_text),
     .doc = "text whose keys and values in the base model are the start; cut or repeated to num_virtual_tokens"},
    {.name = "init_from",
     .type = CFG_PATH,
     MEMBER(init_from),
     .flags = CFG_FREE,
     .doc = "checkpoint whose weights to start from"},
    {.name = NULL},
};

static status_t add_blocks(const control_prefix_cfg_t *c, prefix_table_t *t) {
    for (int i = 0; i < c->attributes.count; i++) {
        const cfg_choice_field_t *f = &c->attributes.items[i];
        if (!f->num_virtual_tokens)
            return st_raise(ST_USAGE, "method.attributes", "num_virtual_tokens of '%s' is missing; give it a number",
                            f->field);
        TRY(prefix_table_add(t, f->field, f->values.items, f->values.count, f->num_virtual_tokens, true));
    }
    return prefix_table_add(t, NULL, NULL, 0, c->num_virtual_tokens, false);
}

static status_t control_open(const void *cfg, model_t *m, void **self) {
    const control_prefix_cfg_t *c = cfg;
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

static status_t control_open_adapter(const adapter_t *a, model_t *m, void **self) {
    prefix_table_t *t;
    TRY(prefix_table_open_adapter(a, false, m, &t));
    *self = t;
    return ST_OK;
}

static const char *control_init_from(const void *cfg) {
    return ((const control_prefix_cfg_t *)cfg)->init_from;
}

static status_t control_describe(const void *self, const model_t *m, json_t **out) {
    return prefix_table_describe(self, m, "CONTROL_PREFIX", out);
}

const method_t method_control_prefix = {
    .section = {"control_prefix", fields, sizeof(control_prefix_cfg_t)},
    .peft_type = "CONTROL_PREFIX", /* not PEFT's: exports are its PREFIX_TUNING */
    .doc = "prefixes that depend on attributes of the example",
    .open = control_open,
    .open_adapter = control_open_adapter,
    .close = prefix_table_close,
    .place = prefix_table_place,
    .init = prefix_table_init,
    .hook = prefix_table_hook,
    .init_from = control_init_from,
    .describe = control_describe,
    .result = prefix_table_result,
    .engines = prefix_table_engines,
};
