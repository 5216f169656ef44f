/* The section `adapters`: several runs on one base, each routed its own examples. Every adapter becomes a tree of its
 * own, the file's with the adapter's method, route and directory in it, and is bound and checked as any run. */
#include <stdio.h>
#include <string.h>
#include "train/config/config_load.h"
#include "train/config/config_tables.h"

enum { NAME_MOST = 64 };

typedef struct expansion {
    const config_load_t *load; /* of the file */
    const cfg_node_t *field;
    cfg_node_t *routes; /* the list of all names */
} expansion_t;

static status_t put_text(const config_load_t *l, cfg_node_t *map, const char *key, const char *text, int line) {
    cfg_node_t *node;
    char *copy;
    TRY(cfg_pool_strndup(l->pool, text, strlen(text), &copy));
    TRY(config_new_node(l, YAML_SCALAR, line, &node));
    node->text = copy;
    node->quoted = true;
    return cfg_node_put(l->pool, map, key, node);
}

/* --- checks of the section itself --- */

static const cfg_field_t no_fields[] = {{0}};

/* The member `key` of the section, which must be of this kind. */
static status_t need(const config_load_t *l, const char *section, const cfg_node_t *map, const char *key,
                     yaml_kind_t kind, const char *what, const cfg_node_t **out) {
    const cfg_node_t *node = cfg_node_get(map, key);
    if (!node) return yaml_raise(l->name, map->line, "missing key '%s' in %s", key, section);
    if (cfg_node_is_null(node) || node->kind != kind || (kind == YAML_SCALAR && !*node->text))
        return yaml_raise(l->name, node->line, "'%s' in %s must be %s, found %s", key, section, what,
                          config_kind_of(node));
    *out = node;
    return ST_OK;
}

/* The name is a directory, too. */
static status_t check_name(const config_load_t *l, const cfg_node_t *name) {
    static const char legal[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
    size_t n = strlen(name->text);
    if (n <= NAME_MOST && name->text[0] != '.' && name->text[0] != '-' && strspn(name->text, legal) == n) return ST_OK;
    return yaml_raise(l->name, name->line,
                      "'name' in adapters, '%s', must be at most %d letters, digits, '_', '-' and '.', the first a "
                      "letter or digit: it is a directory, too",
                      yaml_quote(name->text).text, NAME_MOST);
}

static status_t check_each(const config_load_t *l, const cfg_node_t *each) {
    for (const cfg_node_t *a = each->child; a; a = a->next) {
        const cfg_node_t *name;
        if (a->kind != YAML_MAP)
            return yaml_raise(l->name, a->line, "an entry of 'each' must be a mapping with name and method, found %s",
                              config_kind_of(a));
        TRY(config_check_keys(l, "adapters", a, no_fields, "name|method|training"));
        TRY(need(l, "adapters", a, "name", YAML_SCALAR, "a text", &name));
        TRY(check_name(l, name));
        for (const cfg_node_t *b = each->child; b != a; b = b->next)
            if (!strcmp(cfg_node_get(b, "name")->text, name->text))
                return yaml_raise(l->name, name->line, "two adapters are named '%s'; rename one", name->text);
    }
    return ST_OK;
}

/* What the section itself says elsewhere. */
static status_t refuse_own_keys(const config_load_t *l) {
    static const char *const route[] = {"route_field", "route", "routes"};
    const cfg_node_t *method = cfg_node_get(l->root, "method"), *adapters = cfg_node_get(l->root, "adapters");
    const cfg_node_t *later = method && method->line > adapters->line ? method : adapters;
    if (!cfg_node_is_null(method))
        return yaml_raise(l->name, later->line, "'method' and 'adapters' exclude each other; keep one");
    for (size_t i = 0; i < sizeof route / sizeof *route; i++) {
        const cfg_node_t *key = cfg_node_get(cfg_node_get(l->root, "data"), route[i]);
        if (!cfg_node_is_null(key))
            return yaml_raise(l->name, key->line,
                              "'%s' in data and 'adapters' exclude each other; adapters route by "
                              "their own 'field'",
                              route[i]);
    }
    const cfg_node_t *resume = cfg_node_get(l->root, "resume_from_checkpoint");
    if (resume && resume->kind == YAML_SCALAR && !cfg_node_is_null(resume) && strcmp(resume->text, "auto") &&
        strcmp(resume->text, "never"))
        return yaml_raise(l->name, resume->line,
                          "'resume_from_checkpoint' must be auto or never with 'adapters': each continues from its own "
                          "newest checkpoint");
    return ST_OK;
}

/* --- expansion --- */

/* The file's training section with the adapter's keys in it. A key takes the place of its partner, too. */
static status_t merge_training(const config_load_t *l, const cfg_node_t *own, cfg_node_t *root) {
    const cfg_node_t *common = cfg_node_get(root, "training");
    if (own->kind != YAML_MAP)
        return yaml_raise(l->name, own->line, "'training' in adapters must be a mapping, found %s",
                          config_kind_of(own));
    if (cfg_node_is_null(common)) return config_put_copy(l, root, "training", own);
    if (common->kind != YAML_MAP) return ST_OK; /* refused when it is bound */
    cfg_node_t *merged;
    TRY(config_copy_map(l, common, &merged));
    for (const cfg_node_t *c = own->child; c; c = c->next) {
        const cfg_field_t *f = cfg_field_find(config_training_fields, c->key);
        const char *partner = f ? f->exclusive_with : NULL;
        cfg_node_t *none;
        TRY(config_new_node(l, YAML_SCALAR, c->line, &none));
        if (partner && cfg_node_get(merged, partner) && !cfg_node_get(own, partner))
            TRY(cfg_node_put(l->pool, merged, partner, none));
        TRY(config_put_copy(l, merged, c->key, c));
    }
    return cfg_node_put(l->pool, root, "training", merged);
}

static status_t put_route(const expansion_t *x, const cfg_node_t *name, cfg_node_t *root) {
    const config_load_t *l = x->load;
    const cfg_node_t *data = cfg_node_get(root, "data");
    if (cfg_node_is_null(data) || data->kind != YAML_MAP) return ST_OK; /* refused when it is bound */
    cfg_node_t *own;
    TRY(config_copy_map(l, data, &own));
    TRY(put_text(l, own, "route_field", x->field->text, x->field->line));
    TRY(put_text(l, own, "route", name->text, name->line));
    TRY(config_put_copy(l, own, "routes", x->routes));
    return cfg_node_put(l->pool, root, "data", own);
}

static status_t put_directory(const config_load_t *l, const cfg_node_t *name, cfg_node_t *root) {
    const cfg_node_t *dir = cfg_node_get(root, "output_dir");
    if (cfg_node_is_null(dir) || dir->kind != YAML_SCALAR || !*dir->text) return ST_OK; /* refused when it is bound */
    strbuf_t path = {0};
    status_t st = strbuf_addf(&path, "%s/%s", dir->text, name->text);
    if (st == ST_OK) st = put_text(l, root, "output_dir", path.data, dir->line);
    strbuf_release(&path);
    return st;
}

static status_t expand(const expansion_t *x, const cfg_node_t *adapter, config_t *out) {
    config_load_t one = *x->load;
    const cfg_node_t *name = cfg_node_get(adapter, "name"), *method = cfg_node_get(adapter, "method"),
                     *training = cfg_node_get(adapter, "training");
    TRY(config_copy_map(x->load, x->load->root, &one.root));
    cfg_node_t *none;
    TRY(config_new_node(x->load, YAML_SCALAR, adapter->line, &none));
    TRY(cfg_node_put(one.pool, one.root, "adapters", none));
    if (cfg_node_is_null(method))
        return yaml_raise(one.name, method ? method->line : adapter->line, "missing key 'method' in adapters");
    TRY(config_put_copy(&one, one.root, "method", method));
    if (!cfg_node_is_null(training)) TRY(merge_training(&one, training, one.root));
    TRY(put_route(x, name, one.root));
    TRY(put_directory(&one, name, one.root));
    TRY(config_bind_run(&one, out));
    out->name = name->text;
    return ST_OK;
}

static status_t list_names(const config_load_t *l, const cfg_node_t *each, cfg_node_t **out) {
    TRY(config_new_node(l, YAML_LIST, each->line, out));
    cfg_node_t **tail = &(*out)->child;
    for (const cfg_node_t *a = each->child; a; a = a->next) {
        TRY(config_new_node(l, YAML_SCALAR, a->line, tail));
        **tail = *cfg_node_get(a, "name");
        (*tail)->next = NULL;
        (*tail)->quoted = true;
        tail = &(*tail)->next;
        (*out)->count++;
    }
    return ST_OK;
}

/* The seed makes the base, too, where no file has it. */
static status_t check_seed(const config_load_t *l, const cfg_node_t *adapter, const config_t *first,
                           const config_t *c) {
    if (!c->model.config || c->training.seed == first->training.seed) return ST_OK;
    return yaml_raise(
        l->name, adapter->line,
        "'seed' in training must be the same for all adapters of a model that is made from 'config': they "
        "begin with one base");
}

status_t config_bind_adapters(const config_load_t *l, const cfg_node_t *adapters, config_t *out) {
    const cfg_node_t *each;
    expansion_t x = {.load = l};
    TRY(refuse_own_keys(l));
    if (adapters->kind != YAML_MAP)
        return yaml_raise(l->name, adapters->line, "'adapters' must be a mapping with field and each, found %s",
                          config_kind_of(adapters));
    TRY(config_check_keys(l, "adapters", adapters, no_fields, "field|each"));
    TRY(need(l, "adapters", adapters, "field", YAML_SCALAR, "the name of a field of the examples", &x.field));
    TRY(need(l, "adapters", adapters, "each", YAML_LIST, "a list of adapters", &each));
    if (!each->count) return yaml_raise(l->name, each->line, "'each' in adapters must not be an empty list");
    TRY(check_each(l, each));
    TRY(list_names(l, each, &x.routes));
    void *memory;
    TRY(cfg_pool_alloc(l->pool, (size_t)each->count * sizeof(config_t), &memory));
    config_t *adapter = memory;
    int n = 0;
    for (const cfg_node_t *a = each->child; a; a = a->next, n++) {
        TRY(expand(&x, a, &adapter[n]));
        TRY(check_seed(l, a, &adapter[0], &adapter[n]));
    }
    out->adapter = adapter;
    out->adapter_count = n;
    return ST_OK;
}
