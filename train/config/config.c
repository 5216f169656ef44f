#include "train/config/config.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/nearest.h"
#include "train/config/config_load.h"
#include "train/config/config_tables.h"

/* --- overrides --- */

/* `model: path` is short for `model: {path: path}`, a list of one method for that method, `conditioning: none` for an
 * empty section. */
static status_t unfold_short_forms(config_load_t *l) {
    cfg_node_t *model = cfg_node_get(l->root, "model");
    if (model && model->kind == YAML_SCALAR && !cfg_node_is_null(model)) {
        cfg_node_t *map;
        TRY(config_new_node(l, YAML_MAP, model->line, &map));
        TRY(cfg_node_put(l->pool, l->root, "model", map));
        TRY(cfg_node_put(l->pool, map, "path", model));
    }
    cfg_node_t *method = cfg_node_get(l->root, "method");
    cfg_node_t *conditioning = cfg_node_get(l->root, "conditioning");
    bool none = conditioning && conditioning->kind == YAML_SCALAR && !strcmp(conditioning->text, "none");
    if (none) {
        cfg_node_t *empty;
        TRY(config_new_node(l, YAML_SCALAR, conditioning->line, &empty));
        TRY(cfg_node_put(l->pool, l->root, "conditioning", empty));
    }
    bool single = method && method->kind == YAML_LIST && method->count == 1 && method->child->kind == YAML_MAP;
    return single ? cfg_node_put(l->pool, l->root, "method", method->child) : ST_OK;
}

/* A member of a list is called by its name, or its type. */
static cfg_node_t *member(const cfg_node_t *list, const char *word) {
    for (cfg_node_t *m = list->child; m; m = m->next) {
        const cfg_node_t *name = cfg_node_get(m, "name");
        if (!name) name = cfg_node_get(m, "type");
        if (name && name->kind == YAML_SCALAR && !strcmp(name->text, word)) return m;
    }
    return NULL;
}

/* The section `word` of a section, made if it is not there; NULL if there can be none. */
static status_t enter(const config_load_t *l, cfg_node_t *in, const char *word, cfg_node_t **out) {
    cfg_node_t *next = in->kind == YAML_LIST ? member(in, word) : cfg_node_get(in, word);
    if (in->kind == YAML_MAP && cfg_node_is_null(next)) {
        TRY(config_new_node(l, YAML_MAP, YAML_LINE_COMMAND, &next));
        TRY(cfg_node_put(l->pool, in, word, next));
    }
    *out = next && next->kind != YAML_SCALAR ? next : NULL;
    return ST_OK;
}

static status_t apply_override(config_load_t *l, const char *text) {
    const char *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : 0;
    yaml_quote_t q = yaml_quote(text);
    if (len == 0) return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s' is not of the form key=value", q.text);
    char *path;
    TRY(cfg_pool_strndup(l->pool, text, len, &path));
    cfg_node_t *value = NULL, *map = l->root;
    TRY(yaml_tree_parse(l->pool, NULL, equals + 1, strlen(equals + 1), &value));
    if (!value) TRY(config_new_node(l, YAML_SCALAR, YAML_LINE_COMMAND, &value));
    for (char *dot; (dot = strchr(path, '.')) != NULL; path = dot + 1) {
        *dot = 0;
        TRY(enter(l, map, path, &map));
        if (!map)
            return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s': '%s' is not a section", q.text, yaml_quote(path).text);
    }
    if (map->kind != YAML_MAP)
        return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s': name an entry of the list by its type or name", q.text);
    if (!*path) return yaml_raise(l->name, YAML_LINE_COMMAND, "'%s' is not of the form key=value", q.text);
    if (!cfg_node_get(map, path) && map->count >= YAML_KEYS_MAX)
        return yaml_raise(l->name, YAML_LINE_COMMAND, "more than %d keys in one mapping", YAML_KEYS_MAX);
    TRY(cfg_node_put(l->pool, map, path, value));
    return unfold_short_forms(l);
}

/* --- unknown keys --- */

/* The section another than `here` that knows `key`, or NULL; "" is the top level. */
static const char *section_of(const config_load_t *l, const char *here, const char *key) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++)
        if (strcmp(config_sections[i].name, here) && cfg_field_find(config_sections[i].fields, key))
            return config_sections[i].name;
    if (strcmp(here, "method") && config_method_knows(l, key)) return "method";
    if (strcmp(here, "objective") && config_objective_knows(l, key)) return "objective";
    return *here && cfg_field_find(config_top_fields, key) ? "" : NULL;
}

static status_t unknown_key(const config_load_t *l, const char *section, const cfg_node_t *node, const char *best) {
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

status_t config_check_keys(const config_load_t *l, const char *section, const cfg_node_t *map,
                           const cfg_field_t *fields, const char *extra) {
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
static status_t get_section(const config_load_t *l, const char *name, bool required, const cfg_node_t **out) {
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

/* --- rules between keys --- */

/* Where a key stands; the file as a whole when it is not given. */
static int line_of(const config_load_t *l, const char *section, const char *key) {
    const cfg_node_t *map = *section ? cfg_node_get(l->root, section) : l->root;
    const cfg_node_t *node = cfg_node_get(map, key);
    return node ? node->line : YAML_LINE_NONE;
}

static int later_line(int a, int b) {
    return a == YAML_LINE_COMMAND || b == YAML_LINE_COMMAND ? YAML_LINE_COMMAND : a > b ? a : b;
}

static status_t check_route(const config_load_t *l, const config_data_t *d) {
    const char *missing = !d->route_field ? "route_field" : !d->route ? "route" : !d->routes.count ? "routes" : NULL;
    int line = later_line(later_line(line_of(l, "data", "route_field"), line_of(l, "data", "route")),
                          line_of(l, "data", "routes"));
    if ((d->route_field || d->route || d->routes.count) && missing)
        return yaml_raise(l->name, line, "missing key '%s' in data: route_field, route and routes are given together",
                          missing);
    for (int i = 0; i < d->routes.count; i++)
        if (!strcmp(d->routes.items[i], d->route)) return ST_OK;
    if (!d->route) return ST_OK;
    return yaml_raise(l->name, line, "'route' in data, '%s', is not among 'routes'; add it", yaml_quote(d->route).text);
}

/* A method's rate is kept as a multiple of the run's. */
static status_t check_rates(const config_load_t *l, const config_t *c) {
    for (int i = 0; i < c->method_count; i++)
        if (c->method[i].learning_rate > 0 && c->training.learning_rate <= 0)
            return yaml_raise(l->name, c->method[i].line,
                              "'learning_rate' in method needs one in training above 0, whose schedule it follows");
    return ST_OK;
}

static status_t check_rules(const config_load_t *l, const config_t *c) {
    const config_training_t *t = &c->training;
    const config_data_t *d = &c->data;
    if (t->micro_batch_tokens < d->max_seq_length)
        return yaml_raise(
            l->name, later_line(line_of(l, "training", "micro_batch_tokens"), line_of(l, "data", "max_seq_length")),
            "'micro_batch_tokens' in training (%lld) is below 'max_seq_length' in data (%lld); raise it or "
            "shorten the sequences",
            (long long)t->micro_batch_tokens, (long long)d->max_seq_length);
    if (c->eval_steps > 0 && !d->eval)
        return yaml_raise(l->name, line_of(l, "", "eval_steps"),
                          "'eval_steps' needs 'eval' in data; give a file or remove it");
    if (t->lr_scheduler_type == CONFIG_SCHEDULE_WSD && t->warmup_ratio + t->wsd_decay_ratio > 1)
        return yaml_raise(l->name,
                          later_line(line_of(l, "training", "warmup_ratio"), line_of(l, "training", "wsd_decay_ratio")),
                          "'warmup_ratio' and 'wsd_decay_ratio' in training add up to more than 1; lower one");
    TRY(check_route(l, d));
    return check_rates(l, c);
}

status_t config_bind_sections(const config_load_t *l, config_t *out) {
    const cfg_node_t *map[CONFIG_SECTION_COUNT];
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) map[i] = NULL;
    TRY(config_check_types(l));
    TRY(config_check_keys(l, "", l->root, config_top_fields,
                          "model|method|adapters|objective|data|conditioning|training|stages"));
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(get_section(l, s->name, s->required, &map[i]));
        if (map[i]) TRY(config_check_keys(l, s->name, map[i], s->fields, ""));
        if (i == 0) TRY(config_bind_methods(l, out));
    }
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(cfg_bind(&l->src, s->name, map[i] ? map[i]->line : YAML_LINE_NONE, map[i], s->fields,
                     (char *)out + s->offset));
    }
    TRY(config_bind_objective(l, out));
    TRY(cfg_bind(&l->src, "", YAML_LINE_NONE, l->root, config_top_fields, out));
    TRY(config_model_resolve(&l->src, l->root, &out->model));
    return check_rules(l, out);
}

status_t config_bind_run(const config_load_t *l, config_t *out) {
    TRY(config_bind_sections(l, out));
    const cfg_node_t *stages = cfg_node_get(l->root, "stages");
    return cfg_node_is_null(stages) ? ST_OK : config_bind_stages(l, stages, out);
}

/* --- entry points --- */

static status_t load_tree(config_load_t *l, const char *text, size_t len, const char *const *overrides, int count,
                          config_t *out) {
    TRY(yaml_tree_parse(l->pool, l->name, text, len, &l->root));
    if (!l->root)
        return yaml_raise(l->name, YAML_LINE_NONE, "the file is empty; it needs model, method, data and output_dir");
    if (l->root->kind != YAML_MAP)
        return yaml_raise(l->name, l->root->line, "the file must be a mapping of keys to values");
    TRY(unfold_short_forms(l));
    for (int i = 0; i < count; i++) TRY(apply_override(l, overrides[i]));
    const cfg_node_t *adapters = cfg_node_get(l->root, "adapters");
    return cfg_node_is_null(adapters) ? config_bind_run(l, out) : config_bind_adapters(l, adapters, out);
}

const config_t *config_runs(const config_t *config, int *count) {
    *count = config->adapter_count ? config->adapter_count : 1;
    return config->adapter_count ? config->adapter : config;
}

status_t config_parse(const char *name, const char *text, size_t len, const char *const *overrides, int count,
                      const config_methods_t *methods, config_t *out) {
    config_t config = {0};
    config_load_t l = {.name = name, .methods = methods, .pool = &config.pool};
    const char *slash = strrchr(name, '/');
    char *dir;
    status_t st = cfg_pool_strndup(&config.pool, name, slash ? (size_t)(slash - name) + 1 : 0, &dir);
    if (st == ST_OK) {
        l.src = (cfg_source_file_t){.name = name, .dir = dir, .pool = &config.pool};
        st = load_tree(&l, text, len, overrides, count, &config);
    }
    if (st == ST_OK)
        *out = config;
    else
        cfg_pool_release(&config.pool);
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
