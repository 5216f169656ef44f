/* Control Prefixes (Clive et al. 2022): the prefix of an example is [rows of its label of attribute 1; ...; of
 * attribute m; general rows], all direct or all through one projection. Without a label, or with one that is not
 * listed, an example takes rows whose input of the projection is zero (zero keys and values in the direct form), so
 * that its positions stay the same. */
#include <stddef.h>
#include "train/methods/prefix_table.h"

typedef struct control_prefix_cfg {
    prefix_cfg_t prefix;
    cfg_fields_t attributes;
} control_prefix_cfg_t;

static const cfg_field_t fields[] = {
    PREFIX_KEYS(control_prefix_cfg_t, "keys and values for every example, behind those of its labels"),
    {.name = "attributes",
     .type = CFG_FIELDS,
     .offset = offsetof(control_prefix_cfg_t, attributes),
     .flags = CFG_REQUIRED,
     .doc = "list of {field, values, num_virtual_tokens}: keys and values for every value of a field of the examples"},
    {.name = NULL},
};

static status_t add_blocks(const void *cfg, prefix_table_t *t) {
    const control_prefix_cfg_t *c = cfg;
    for (int i = 0; i < c->attributes.count; i++) {
        const cfg_choice_field_t *f = &c->attributes.items[i];
        if (!f->num_virtual_tokens)
            return st_raise(ST_USAGE, "method.attributes", "num_virtual_tokens of '%s' is missing; give it a number",
                            f->field);
        TRY(prefix_table_add(t, f->field, f->values.items, f->values.count, f->num_virtual_tokens, true));
    }
    return prefix_table_add(t, NULL, NULL, 0, c->prefix.num_virtual_tokens, false);
}

static status_t control_open(const void *cfg, model_t *m, void **self) {
    return prefix_table_train(cfg, &((const control_prefix_cfg_t *)cfg)->prefix, add_blocks, m, self);
}

static status_t control_open_adapter(const adapter_t *a, model_t *m, void **self) {
    prefix_table_t *t;
    TRY(prefix_table_open_adapter(a, false, m, &t));
    *self = t;
    return ST_OK;
}

static const char *control_init_from(const void *cfg) {
    return ((const control_prefix_cfg_t *)cfg)->prefix.init_from;
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
