/* What the files that read a configuration share: the tree on its way to a config_t. Only this directory uses it. */
#pragma once
#include "train/config/config.h"

/* What one load works on. */
typedef struct config_load {
    const char *name; /* of the file */
    const config_methods_t *methods;
    cfg_pool_t *pool;
    cfg_node_t *root; /* a mapping: one run */
    cfg_source_file_t src;
} config_load_t;

/* config_tree.c: nodes */
status_t config_new_node(const config_load_t *l, yaml_kind_t kind, int line, cfg_node_t **out);
/* A copy whose members may be replaced; what stands below them is shared. */
status_t config_copy_map(const config_load_t *l, const cfg_node_t *map, cfg_node_t **out);
status_t config_put_copy(const config_load_t *l, cfg_node_t *map, const char *key, const cfg_node_t *value);
const char *config_kind_of(const cfg_node_t *node); /* "a mapping", for messages */

/* Every key of `map` must have a row or be one of the words in `extra` ("model|data"). */
status_t config_check_keys(const config_load_t *l, const char *section, const cfg_node_t *map,
                           const cfg_field_t *fields, const char *extra);
/* The whole of l->root but its stages, and the rules between its keys. */
status_t config_bind_sections(const config_load_t *l, config_t *out);
/* With its stages. */
status_t config_bind_run(const config_load_t *l, config_t *out);

/* config_method.c: the section `method`. */
/* The types must be known: before other keys, because hints about misplaced ones look into their tables. */
status_t config_check_types(const config_load_t *l);
bool config_method_knows(const config_load_t *l, const char *key);
status_t config_bind_methods(const config_load_t *l, config_t *out);

/* config_objective.c: the section `objective`. */
bool config_objective_knows(const config_load_t *l, const char *key);
status_t config_bind_objective(const config_load_t *l, config_t *out);

/* config_adapters.c: `adapters` becomes one tree for each, which is bound by itself. */
status_t config_bind_adapters(const config_load_t *l, const cfg_node_t *adapters, config_t *out);

/* config_stages.c: every entry of `stages` becomes a tree, too. */
status_t config_bind_stages(const config_load_t *l, const cfg_node_t *stages, config_t *out);
