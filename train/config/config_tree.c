#include "train/config/config_load.h"

status_t config_new_node(const config_load_t *l, yaml_kind_t kind, int line, cfg_node_t **out) {
    void *memory;
    TRY(cfg_pool_alloc(l->pool, sizeof(cfg_node_t), &memory));
    cfg_node_t *node = memory;
    node->kind = kind;
    node->line = line;
    node->text = kind == YAML_SCALAR ? "" : NULL;
    *out = node;
    return ST_OK;
}

status_t config_copy_map(const config_load_t *l, const cfg_node_t *map, cfg_node_t **out) {
    TRY(config_new_node(l, YAML_MAP, map->line, out));
    for (const cfg_node_t *c = map->child; c; c = c->next) {
        cfg_node_t *copy;
        TRY(config_new_node(l, c->kind, c->line, &copy));
        *copy = *c;
        TRY(cfg_node_put(l->pool, *out, c->key, copy));
    }
    return ST_OK;
}

status_t config_put_copy(const config_load_t *l, cfg_node_t *map, const char *key, const cfg_node_t *value) {
    cfg_node_t *copy;
    TRY(config_new_node(l, value->kind, value->line, &copy));
    *copy = *value;
    return cfg_node_put(l->pool, map, key, copy);
}

const char *config_kind_of(const cfg_node_t *node) {
    return cfg_node_is_null(node)    ? "nothing"
           : node->kind == YAML_MAP  ? "a mapping"
           : node->kind == YAML_LIST ? "a list"
                                     : "a single value";
}
