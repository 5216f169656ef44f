/* The section `method`: one mapping with the type and its keys, or a list of them. */
#include <stdio.h>
#include <string.h>
#include "data/nearest.h"
#include "train/config/config_load.h"
#include "train/config/config_tables.h"

/* The first method of a node that is one or a list of them, and the next one. */
static const cfg_node_t *first_of(const cfg_node_t *node) {
    return node && node->kind == YAML_LIST ? node->child : node;
}

static const cfg_node_t *next_of(const cfg_node_t *node, const cfg_node_t *member) {
    return node->kind == YAML_LIST ? member->next : NULL;
}

static status_t unknown_type(const config_load_t *l, const cfg_node_t *type) {
    char known[512] = "";
    nearest_t near = {.word = type->text};
    const char *name;
    for (int i = 0; (name = l->methods->type(i)) != NULL; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", name);
        nearest_offer(&near, name);
    }
    yaml_quote_t q = yaml_quote(type->text);
    if (near.best)
        return yaml_raise(l->name, type->line, "unknown method '%s' (did you mean '%s'?)", q.text, near.best);
    return yaml_raise(l->name, type->line, "unknown method '%s'; known: %s", q.text, known);
}

static status_t find_method(const config_load_t *l, const cfg_node_t *map, const method_fields_t **out) {
    const cfg_node_t *type = cfg_node_get(map, "type");
    if (cfg_node_is_null(type))
        return yaml_raise(l->name, type ? type->line : map->line, "missing key 'type' in method");
    if (type->kind != YAML_SCALAR)
        return yaml_raise(l->name, type->line, "'type' in method must be the name of a method");
    *out = l->methods->find(type->text);
    return *out ? ST_OK : unknown_type(l, type);
}

status_t config_check_types(const config_load_t *l) {
    const cfg_node_t *node = cfg_node_get(l->root, "method");
    for (const cfg_node_t *m = first_of(node); m; m = next_of(node, m)) {
        const method_fields_t *found;
        if (m->kind == YAML_MAP && cfg_node_get(m, "type")) TRY(find_method(l, m, &found));
    }
    return ST_OK;
}

bool config_method_knows(const config_load_t *l, const char *key) {
    const cfg_node_t *node = cfg_node_get(l->root, "method");
    for (const cfg_node_t *m = first_of(node); m; m = next_of(node, m)) {
        const cfg_node_t *type = cfg_node_get(m, "type");
        const method_fields_t *f = type && type->kind == YAML_SCALAR ? l->methods->find(type->text) : NULL;
        if (f && cfg_field_find(f->fields, key)) return true;
    }
    return false;
}

static status_t bind_one(const config_load_t *l, const cfg_node_t *map, config_method_t *out) {
    const method_fields_t *method;
    void *cfg;
    TRY(find_method(l, map, &method));
    TRY(config_check_keys(l, "method", map, method->fields, "type|learning_rate"));
    TRY(cfg_pool_alloc(l->pool, method->size, &cfg));
    TRY(cfg_bind(&l->src, "method", map->line, map, method->fields, cfg));
    *out = (config_method_t){.type = method->type, .fields = method->fields, .cfg = cfg, .line = map->line};
    return cfg_bind(&l->src, "method", map->line, map, config_method_fields, out);
}

static status_t check_member(const config_load_t *l, const cfg_node_t *m, const config_method_t *before, int n) {
    if (m->kind != YAML_MAP)
        return yaml_raise(l->name, m->line, "an entry of 'method' must be a mapping with a 'type', found %s",
                          m->kind == YAML_LIST ? "a list" : "a single value");
    const cfg_node_t *type = cfg_node_get(m, "type");
    for (int i = 0; type && type->kind == YAML_SCALAR && i < n; i++)
        if (!strcmp(before[i].type, type->text))
            return yaml_raise(
                l->name, type->line,
                "'method' has two entries of the type '%s'; give each type once, because their tensors have "
                "the same names",
                before[i].type);
    return ST_OK;
}

status_t config_bind_methods(const config_load_t *l, config_t *out) {
    const cfg_node_t *node = cfg_node_get(l->root, "method");
    if (cfg_node_is_null(node)) return yaml_raise(l->name, node ? node->line : YAML_LINE_NONE, "missing key 'method'");
    if (node->kind == YAML_SCALAR)
        return yaml_raise(l->name, node->line,
                          "'method' must be a mapping or a list of mappings, found a single value");
    int count = node->kind == YAML_LIST ? node->count : 1;
    if (!count) return yaml_raise(l->name, node->line, "'method' must not be an empty list; give at least one method");
    void *memory;
    TRY(cfg_pool_alloc(l->pool, (size_t)count * sizeof(config_method_t), &memory));
    config_method_t *method = memory;
    int n = 0;
    for (const cfg_node_t *m = first_of(node); m; m = next_of(node, m), n++) {
        TRY(check_member(l, m, method, n));
        TRY(bind_one(l, m, &method[n]));
    }
    out->method = method;
    out->method_count = count;
    return ST_OK;
}
