#include "train/cli/condition.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/nearest.h"
#include "train/methods/adapter.h"
#include "train/run/base.h"
#include "train/run/registry.h"

/* "'a', 'b' and 7 more" */
static void add_word(char *list, size_t size, int i, int n, const char *word) {
    enum { SHOWN = 8 };
    size_t used = strlen(list);
    if (i < SHOWN)
        snprintf(list + used, size - used, "%s'%.40s'", i ? ", " : "", word);
    else if (i == SHOWN)
        snprintf(list + used, size - used, " and %d more", n - SHOWN);
}

/* The fields of the template, without those that have labels, which are listed already. */
static status_t unknown_field(const virtual_layout_t *v, const condition_t *c, const char *text, size_t n) {
    char list[512] = "";
    int known = v->n_field, fields = 0;
    while (c && condition_field(c, fields)) fields++;
    if (known + fields == 0)
        return st_raise(ST_USAGE, "--condition",
                        "'%s' is given, but no adapter here chooses by a field and there is no template; name one with "
                        "--template CONFIG",
                        text);
    for (int i = 0; i < known; i++) add_word(list, sizeof list, i, known + fields, v->field[i].name);
    for (int i = 0; i < fields; i++) add_word(list, sizeof list, known + i, known + fields, condition_field(c, i));
    return st_raise(ST_USAGE, "--condition", "unknown field '%.*s'; known: %s", (int)n, text, list);
}

static status_t unknown_value(const virtual_field_t *f, const char *value) {
    char list[512] = "";
    nearest_t near = {.word = value};
    for (int i = 0; i < f->n; i++) nearest_offer(&near, f->value[i]);
    if (near.best)
        return st_raise(ST_USAGE, "--condition", "field '%s' has no value '%s' (did you mean '%s'?)", f->name, value,
                        near.best);
    for (int i = 0; i < f->n; i++) add_word(list, sizeof list, i, f->n, f->value[i]);
    return st_raise(ST_USAGE, "--condition", "field '%s' has no value '%s'; known: %s", f->name, value, list);
}

static bool same_word(const char *word, const char *text, size_t n) {
    return strlen(word) == n && !memcmp(word, text, n);
}

/* A field of the layout, of the template, or of both; `used` tells whether the template has it. */
static status_t one(const char *text, const virtual_layout_t *v, const condition_t *c, int32_t *label, bool *used) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return st_raise(ST_USAGE, "--condition", "'%s' is not of the form field=value", text);
    size_t n = (size_t)(equals - text);
    int field = -1;
    *used = false;
    for (int i = 0; c && condition_field(c, i); i++) *used |= same_word(condition_field(c, i), text, n);
    for (int i = 0; i < v->n_field; i++)
        if (same_word(v->field[i].name, text, n)) field = i;
    if (field < 0) return *used ? ST_OK : unknown_field(v, c, text, n);
    if (label[field] >= 0)
        return st_raise(ST_USAGE, "--condition", "field '%s' is given twice; give one value", v->field[field].name);
    label[field] = virtual_label(&v->field[field], equals + 1);
    return label[field] < 0 ? unknown_value(&v->field[field], equals + 1) : ST_OK;
}

status_t condition_labels(const option_list_t *conditions, const virtual_layout_t *layout, int32_t *label) {
    bool used;
    for (int i = 0; i < layout->n_field; i++) label[i] = -1;
    for (int i = 0; i < conditions->count; i++) TRY(one(conditions->item[i], layout, NULL, label, &used));
    return ST_OK;
}

/* --- templates --- */

/* The fields are there before their values: the template says which ones it knows. */
static status_t use_template(conditions_t *c, const config_t *config) {
    const cfg_template_t *t = &config->conditioning.template;
    const condition_use_t use = {.document_only = true, .given = c->from_data ? NULL : c->fields};
    return t->count && !c->condition ? condition_open(t->items, t->count, &use, &c->condition) : ST_OK;
}

static status_t use_adapter(conditions_t *c, const char *path) {
    adapter_t *a = NULL;
    config_t config;
    memset(&config, 0, sizeof config);
    TRY(adapter_open(path, &a));
    const char *yaml = adapter_run_config(a);
    status_t st = yaml ? config_parse(path, yaml, strlen(yaml), NULL, 0, registry_methods(), &config) : ST_OK;
    if (st == ST_OK) st = use_template(c, &config);
    config_release(&config);
    adapter_close(a);
    return st;
}

static status_t use_run(conditions_t *c, const char *model) {
    bool run;
    config_t config;
    memset(&config, 0, sizeof config);
    status_t st = base_find_run(model, &config, &run);
    if (st == ST_OK && run) st = use_template(c, &config);
    config_release(&config);
    return st;
}

static status_t use_file(conditions_t *c) {
    config_t config;
    memset(&config, 0, sizeof config);
    TRY(config_load(c->template, NULL, 0, registry_methods(), &config));
    status_t st = use_template(c, &config);
    if (st == ST_OK && !c->condition)
        st = st_raise(ST_USAGE, c->template, "has no template in conditioning; name a configuration that has one");
    config_release(&config);
    return st;
}

static status_t find_template(conditions_t *c, const char *model, const option_list_t *adapter) {
    if (c->template) return use_file(c);
    for (int i = 0; i < adapter->count && !c->condition; i++) TRY(use_adapter(c, adapter->item[i]));
    return c->condition ? ST_OK : use_run(c, model);
}

static status_t set_field(conditions_t *c, const char *text) {
    const char *equals = strchr(text, '=');
    size_t n = (size_t)(equals - text);
    char *name = buf_strndup(text, n);
    if (!name) return ST_NOMEM;
    status_t st = ST_OK;
    if (json_object_get(c->fields, name))
        st = st_raise(ST_USAGE, "--condition", "field '%s' is given twice; give one value", name);
    else if (json_object_set_new(c->fields, name, json_string(equals + 1)))
        st = st_raise(ST_USAGE, "--condition", "the value of '%s' is not valid UTF-8", name);
    free(name);
    return st;
}

status_t conditions_open(conditions_t *c, const char *model, const option_list_t *adapter, const loaded_t *l) {
    const encoder_t encoder = encoder_of_tokenizer(l->tokenizer);
    for (int i = 0; i < l->layout.n_field; i++) c->label[i] = -1;
    if (c->from_data && c->given.count)
        return st_raise(ST_USAGE, "--condition-from-data", "and --condition exclude each other; keep one");
    if (!c->given.count && !c->template && !c->from_data) return ST_OK;
    c->fields = json_object();
    if (!c->fields) return st_nomem("conditions", 0);
    TRY(find_template(c, model, adapter));
    if (c->from_data && !c->condition)
        return st_raise(ST_USAGE, "--condition-from-data", "there is no template; name one with --template CONFIG");
    for (int i = 0; i < c->given.count; i++) {
        bool used;
        TRY(one(c->given.item[i], &l->layout, c->condition, c->label, &used));
        if (used) TRY(set_field(c, c->given.item[i]));
    }
    if (!c->condition || c->from_data) return ST_OK;
    status_t st = condition_render(c->condition, &encoder, NULL, &c->tokens);
    return st == ST_INPUT ? st_raise(ST_USAGE, "--condition", "a field that the template compares must be a number")
                          : st;
}

void conditions_release(conditions_t *c) {
    condition_close(c->condition);
    condition_tokens_release(&c->tokens);
    json_decref(c->fields);
    c->condition = NULL;
    c->fields = NULL;
}
