#include "train/cli/condition.h"
#include <stdio.h>
#include <string.h>
#include "data/nearest.h"

/* "'a', 'b' and 7 more" */
static void add_word(char *list, size_t size, int i, int n, const char *word) {
    enum { SHOWN = 8 };
    size_t used = strlen(list);
    if (i < SHOWN)
        snprintf(list + used, size - used, "%s'%.40s'", i ? ", " : "", word);
    else if (i == SHOWN)
        snprintf(list + used, size - used, " and %d more", n - SHOWN);
}

static status_t unknown_field(const virtual_layout_t *v, const char *text, size_t n) {
    char list[512] = "";
    if (!v->n_field)
        return st_raise(ST_USAGE, "--condition", "'%s' is given, but no adapter here chooses by a field", text);
    for (int i = 0; i < v->n_field; i++) add_word(list, sizeof list, i, v->n_field, v->field[i].name);
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

static status_t one(const char *text, const virtual_layout_t *v, int32_t *label) {
    const char *equals = strchr(text, '=');
    if (!equals || equals == text)
        return st_raise(ST_USAGE, "--condition", "'%s' is not of the form field=value", text);
    size_t n = (size_t)(equals - text);
    int field = -1;
    for (int i = 0; i < v->n_field; i++)
        if (strlen(v->field[i].name) == n && !memcmp(v->field[i].name, text, n)) field = i;
    if (field < 0) return unknown_field(v, text, n);
    if (label[field] >= 0)
        return st_raise(ST_USAGE, "--condition", "field '%s' is given twice; give one value", v->field[field].name);
    label[field] = virtual_label(&v->field[field], equals + 1);
    return label[field] < 0 ? unknown_value(&v->field[field], equals + 1) : ST_OK;
}

status_t condition_labels(const option_list_t *conditions, const virtual_layout_t *layout, int32_t *label) {
    for (int i = 0; i < layout->n_field; i++) label[i] = -1;
    for (int i = 0; i < conditions->count; i++) TRY(one(conditions->item[i], layout, label));
    return ST_OK;
}
