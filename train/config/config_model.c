#include <string.h>
#include "train/config/config_tables.h"
#include "train/config/model_file.h"

/* A name is looked up now, while the directory of the file is known. A path from the root stays as it is, so that the
 * configuration of an old checkpoint can be read when the file has moved. */
static status_t find_file(const cfg_source_file_t *src, const cfg_node_t *node, config_model_t *model) {
    if (model->config[0] == '/') return ST_OK;
    strbuf_t path = {0};
    char *copy;
    status_t st = model_file_find(node->line == YAML_LINE_COMMAND ? "" : src->dir, model->config, &path);
    if (st == ST_USAGE && node->line == YAML_LINE_COMMAND) st = st_context(st, "command line");
    if (st == ST_USAGE && node->line > 0) st = st_context(st, "%s:%d", src->name, node->line);
    if (st == ST_OK) st = cfg_pool_strndup(src->pool, path.data, path.len, &copy);
    if (st == ST_OK) model->config = copy;
    strbuf_release(&path);
    return st;
}

status_t config_model_resolve(const cfg_source_file_t *src, const cfg_node_t *root, config_model_t *model) {
    const cfg_node_t *map = cfg_node_get(root, "model"), *node = cfg_node_get(map, "config");
    if (model->path) return ST_OK;
    if (!model->config)
        return yaml_raise(src->name, map->line,
                          "missing key 'path' in model; or give 'config' and 'tokenizer' for a "
                          "model made anew");
    if (!model->tokenizer)
        return yaml_raise(src->name, node->line,
                          "'config' in model needs 'tokenizer', a Hugging Face directory or GGUF "
                          "file");
    return find_file(src, node, model);
}
