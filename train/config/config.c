#include "train/config/config.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/config/config_tables.h"
#include "data/nearest.h"

/* What one load works on. */
typedef struct load {
    const char *name; /* of the file */
    const config_methods_t *methods;
    config_t config;
    cfg_node_t *root; /* a mapping */
    const method_fields_t *method;
    cfg_source_file_t src;
} load_t;

/* --- overrides --- */

static status_t new_node(load_t *l, yaml_kind_t kind, cfg_node_t **out) {
    void *memory;
    TRY(cfg_pool_alloc(&l->config.pool, sizeof(cfg_node_t), &memory));
    cfg_node_t *node = memory;
    node->kind = kind;
    node->text = kind == YAML_SCALAR ? "" : NULL;
    *out = node;
    return ST_OK;
}

/* `model: path` is short for `model: {path: path}`, a list of one method for that method. */
static status_t unfold_short_forms(load_t *l) {
    cfg_node_t *model = cfg_node_get(l->root, "model");
    if (model && model->kind == YAML_SCALAR && !cfg_node_is_null(model)) {
        cfg_node_t *map;
        TRY(new_node(l, YAML_MAP, &map));
        map->line = model->line;
        TRY(cfg_node_put(&l->config.pool, l->root, "model", map));
        TRY(cfg_node_put(&l->config.pool, map, "path", model));
    }
    cfg_node_t *method = cfg_node_get(l->root, "method");
    if (method && method->kind == YAML_LIST) {
        if (method->count != 1)
            return yaml_raise(l->name, method->line, "'method' has %d entries; give exactly one method", method->count);
        TRY(cfg_node_put(&l->config.pool, l->root, "method", method->child));
    }
    return ST_OK;
}

static status_t apply_override(load_t *l, const char *text) {
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : 0;
    yaml_quote_t q = yaml_quote(text);
    if (len == 0) return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s' is not of the form key=value", q.text);
    char *path;
    TRY(cfg_pool_strndup(&l->config.pool, text, len, &path));
    cfg_node_t *value = NULL, *map = l->root;
    TRY(yaml_tree_parse(&l->config.pool, NULL, equals + 1, strlen(equals + 1), &value));
    if (!value) TRY(new_node(l, YAML_SCALAR, &value));
    for (char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        *dot = 0;
        cfg_node_t *next = cfg_node_get(map, path);
        if (!next || cfg_node_is_null(next)) {
            TRY(new_node(l, YAML_MAP, &next));
            TRY(cfg_node_put(&l->config.pool, map, path, next));
        }
        if (next->kind != YAML_MAP)
            return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s': '%s' is not a section", q.text, yaml_quote(path).text);
        map = next;
    }
    if (!*path) return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s' is not of the form key=value", q.text);
    if (!cfg_node_get(map, path) && map->count >= YAML_KEYS_MAX)
        return yaml_raise(l->name, YAML_LINE_COMMAND, "more than %d keys in one mapping", YAML_KEYS_MAX);
    TRY(cfg_node_put(&l->config.pool, map, path, value));
    return unfold_short_forms(l);
}

/* --- unknown keys --- */

/* The section another than `here` that knows `key`, or NULL; "" is the top level. */
static const char *section_of(const load_t *l, const char *here, const char *key) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++)
        if (strcmp(config_sections[i].name, here) && cfg_field_find(config_sections[i].fields, key))
            return config_sections[i].name;
    if (strcmp(here, "method") && l->method && cfg_field_find(l->method->fields, key)) return "method";
    return *here && cfg_field_find(config_top_fields, key) ? "" : NULL;
}

static status_t unknown_key(const load_t *l, const char *section, const cfg_node_t *node, const char *best) {
    char in[64] = "", hint[128] = "";
    if (*section) snprintf(in, sizeof in, " in %s", section);
    const char *other = section_of(l, section, node->key);
    if (other && *other)
        snprintf(hint, sizeof hint, " (did you mean '%s.%s'?)", other, node->key);
    else if (other)
        snprintf(hint, sizeof hint, " (did you mean '%s' at the top level?)", node->key);
    else if (best)
        snprintf(hint, sizeof hint, " (did you mean '%s'?)", best);
    return yaml_raise(l->name, node->line, "unknown key '%s'%s%s", yaml_quote(node->key).text, in, hint);
}

/* Every key of `map` must have a row or be one of the words in `extra` ("model|data"). */
static status_t check_keys(const load_t *l, const char *section, const cfg_node_t *map, const cfg_field_t *fields,
                           const char *extra) {
    for (const cfg_node_t *c = map->child; c; c = c->next) {
        char store[64];
        nearest_t near = {.word = c->key};
        for (const cfg_field_t *f = fields; f->name; f++) nearest_offer(&near, f->name);
        nearest_offer_list(&near, extra, store, sizeof store);
        if (!near.best || near.distance > 0) return unknown_key(l, section, c, near.best);
    }
    return ST_OK;
}

/* --- sections --- */

/* The mapping under `name`; NULL where the section is not there. */
static status_t get_section(const load_t *l, const char *name, bool required, const cfg_node_t **out) {
    const cfg_node_t *node = cfg_node_get(l->root, name);
    if (cfg_node_is_null(node)) {
        if (required) return yaml_raise(l->name, node ? node->line : YAML_LINE_NONE, "missing key '%s'", name);
        *out = NULL;
        return ST_OK;
    }
    if (node->kind != YAML_MAP)
        return yaml_raise(l->name, node->line, "'%s' must be a mapping, found %s", name,
                          node->kind == YAML_LIST ? "a list" : "a single value");
    *out = node;
    return ST_OK;
}

static status_t find_method(load_t *l, const cfg_node_t *map) {
    const cfg_node_t *type = cfg_node_get(map, "type");
    if (cfg_node_is_null(type))
        return yaml_raise(l->name, type ? type->line : map->line, "missing key 'type' in method");
    if (type->kind != YAML_SCALAR)
        return yaml_raise(l->name, type->line, "'type' in method must be the name of a method");
    l->method = l->methods->find(type->text);
    if (l->method) return ST_OK;
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

static status_t bind_method(load_t *l, const cfg_node_t *map) {
    void *cfg, *entry;
    TRY(check_keys(l, "method", map, l->method->fields, "type"));
    TRY(cfg_pool_alloc(&l->config.pool, l->method->size, &cfg));
    TRY(cfg_bind(&l->src, "method", map->line, map, l->method->fields, cfg));
    TRY(cfg_pool_alloc(&l->config.pool, sizeof(config_method_t), &entry));
    config_method_t *method = entry;
    *method = (config_method_t){l->method->type, l->method->fields, cfg, map->line};
    l->config.method = method;
    l->config.method_count = 1;
    return ST_OK;
}

static status_t bind_all(load_t *l) {
    const cfg_node_t *map[CONFIG_SECTION_COUNT], *method = NULL;
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) map[i] = NULL;
    /* the method comes first because hints about misplaced keys look into its table */
    const cfg_node_t *node = cfg_node_get(l->root, "method");
    if (node && node->kind == YAML_MAP && cfg_node_get(node, "type")) TRY(find_method(l, node));
    TRY(check_keys(l, "", l->root, config_top_fields, "model|method|data|training"));
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(get_section(l, s->name, strcmp(s->name, "training") != 0, &map[i]));
        if (map[i]) TRY(check_keys(l, s->name, map[i], s->fields, ""));
        if (i == 0) {
            TRY(get_section(l, "method", true, &method));
            TRY(find_method(l, method));
            TRY(bind_method(l, method));
        }
    }
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(cfg_bind(&l->src, s->name, map[i] ? map[i]->line : YAML_LINE_NONE, map[i], s->fields,
                     (char *)&l->config + s->offset));
    }
    return cfg_bind(&l->src, "", YAML_LINE_NONE, l->root, config_top_fields, &l->config);
}

/* --- rules between keys --- */

/* Where a key stands; the file as a whole when it is not given. */
static int line_of(const load_t *l, const char *section, const char *key) {
    const cfg_node_t *map = *section ? cfg_node_get(l->root, section) : l->root;
    const cfg_node_t *node = cfg_node_get(map, key);
    return node ? node->line : YAML_LINE_NONE;
}

static int later_line(int a, int b) {
    return a == YAML_LINE_COMMAND || b == YAML_LINE_COMMAND ? YAML_LINE_COMMAND : a > b ? a : b;
}

static status_t check_rules(const load_t *l) {
    const config_training_t *t = &l->config.training;
    const config_data_t *d = &l->config.data;
    if (t->micro_batch_tokens < d->max_seq_length)
        return yaml_raise(
            l->name, later_line(line_of(l, "training", "micro_batch_tokens"), line_of(l, "data", "max_seq_length")),
            "'micro_batch_tokens' in training (%lld) is below 'max_seq_length' in data (%lld); raise it or "
            "shorten the sequences",
            (long long)t->micro_batch_tokens, (long long)d->max_seq_length);
    if (l->config.eval_steps > 0 && !d->eval)
        return yaml_raise(l->name, line_of(l, "", "eval_steps"),
                          "'eval_steps' needs 'eval' in data; give a file or remove it");
    if (t->lr_scheduler_type == CONFIG_SCHEDULE_WSD && t->warmup_ratio + t->wsd_decay_ratio > 1)
        return yaml_raise(l->name,
                          later_line(line_of(l, "training", "warmup_ratio"), line_of(l, "training", "wsd_decay_ratio")),
                          "'warmup_ratio' and 'wsd_decay_ratio' in training add up to more than 1; lower one");
    return ST_OK;
}

/* --- entry points --- */

static status_t load_tree(load_t *l, const char *text, size_t len, const char *const *overrides, int count) {
    TRY(yaml_tree_parse(&l->config.pool, l->name, text, len, &l->root));
    if (!l->root)
        return yaml_raise(l->name, YAML_LINE_NONE, "the file is empty; it needs model, method, data and output_dir");
    if (l->root->kind != YAML_MAP)
        return yaml_raise(l->name, l->root->line, "the file must be a mapping of keys to values");
    TRY(unfold_short_forms(l));
    for (int i = 0; i < count; i++) TRY(apply_override(l, overrides[i]));
    TRY(bind_all(l));
    return check_rules(l);
}

status_t config_parse(const char *name, const char *text, size_t len, const char *const *overrides, int count,
                      const config_methods_t *methods, config_t *out) {
    load_t l = {.name = name, .methods = methods};
    const char *slash = strrchr(name, '/');
    char *dir;
    status_t st = cfg_pool_strndup(&l.config.pool, name, slash ? (size_t)(slash - name) + 1 : 0, &dir);
    if (st == ST_OK) {
        l.src = (cfg_source_file_t){.name = name, .dir = dir, .pool = &l.config.pool};
        st = load_tree(&l, text, len, overrides, count);
    }
    if (st == ST_OK)
        *out = l.config;
    else
        cfg_pool_release(&l.config.pool);
    return st;
}

/* The whole file, or its first YAML_BYTES_MAX + 1 bytes, which is too much for the parser. */
static status_t read_file(const char *path, strbuf_t *out) {
    FILE *f = fopen(path, "rb");
    if (!f) return st_errno(ST_INPUT, path, "open", errno);
    char chunk[4096];
    status_t st = ST_OK;
    size_t n = 1;
    while (st == ST_OK && n > 0 && out->len <= YAML_BYTES_MAX) {
        n = fread(chunk, 1, sizeof chunk, f);
        st = strbuf_add(out, chunk, n);
    }
    if (st == ST_OK && ferror(f)) st = st_errno(ST_INPUT, path, "read", errno);
    fclose(f);
    return st;
}

status_t config_load(const char *path, const char *const *overrides, int count, const config_methods_t *methods,
                     config_t *out) {
    strbuf_t text = {0};
    status_t st = read_file(path, &text);
    if (st == ST_OK) st = config_parse(path, text.data, text.len, overrides, count, methods, out);
    strbuf_release(&text);
    return st;
}

void config_release(config_t *config) {
    cfg_pool_release(&config->pool);
    *config = (config_t){0};
}
