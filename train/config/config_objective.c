/* The section `objective`: a type and its keys. */
#include <stdio.h>
#include <string.h>
#include "data/nearest.h"
#include "train/config/config_load.h"

static const method_fields_t *find(const config_load_t *l, const char *type) {
    const method_fields_t *o;
    for (int i = 0; (o = l->methods->objective(i)) != NULL; i++)
        if (!strcmp(o->type, type)) return o;
    return NULL;
}

static status_t unknown_type(const config_load_t *l, const cfg_node_t *type) {
    char known[512] = "";
    nearest_t near = {.word = type->text};
    const method_fields_t *o;
    for (int i = 0; (o = l->methods->objective(i)) != NULL; i++) {
        size_t n = strlen(known);
        snprintf(known + n, sizeof known - n, "%s%s", n ? ", " : "", o->type);
        nearest_offer(&near, o->type);
    }
    yaml_quote_t q = yaml_quote(type->text);
    if (near.best)
        return yaml_raise(l->name, type->line, "unknown objective '%s' (did you mean '%s'?)", q.text, near.best);
    return yaml_raise(l->name, type->line, "unknown objective '%s'; known: %s", q.text, known);
}

/* The section as the file has it, NULL if it has none. */
static status_t section(const config_load_t *l, const cfg_node_t **out) {
    const cfg_node_t *node = cfg_node_get(l->root, "objective");
    *out = cfg_node_is_null(node) ? NULL : node;
    if (!*out || node->kind == YAML_MAP) return ST_OK;
    return yaml_raise(l->name, node->line, "'objective' must be a mapping with a 'type', found %s",
                      node->kind == YAML_LIST ? "a list" : "a single value");
}

static status_t find_type(const config_load_t *l, const cfg_node_t *map, const method_fields_t **out) {
    const cfg_node_t *type = cfg_node_get(map, "type");
    if (cfg_node_is_null(type))
        return yaml_raise(l->name, type ? type->line : map->line, "missing key 'type' in objective");
    if (type->kind != YAML_SCALAR)
        return yaml_raise(l->name, type->line, "'type' in objective must be the name of an objective");
    *out = find(l, type->text);
    return *out ? ST_OK : unknown_type(l, type);
}

bool config_objective_knows(const config_load_t *l, const char *key) {
    const cfg_node_t *map = cfg_node_get(l->root, "objective");
    const cfg_node_t *type = map && map->kind == YAML_MAP ? cfg_node_get(map, "type") : NULL;
    if (!l->methods->objective || !type || type->kind != YAML_SCALAR) return false;
    const method_fields_t *o = find(l, type->text);
    return o && cfg_field_find(o->fields, key);
}

status_t config_bind_objective(const config_load_t *l, config_t *out) {
    const cfg_node_t *map;
    const method_fields_t *o;
    void *cfg;
    if (!l->methods->objective) return ST_OK;
    TRY(section(l, &map));
    o = l->methods->objective(0);
    if (map) TRY(find_type(l, map, &o));
    if (map) TRY(config_check_keys(l, "objective", map, o->fields, "type"));
    TRY(cfg_pool_alloc(l->pool, o->size, &cfg));
    TRY(cfg_bind(&l->src, "objective", map ? map->line : YAML_LINE_NONE, map, o->fields, cfg));
    out->objective = (config_objective_t){o->type, o->fields, cfg};
    return ST_OK;
}
