#include <stdio.h>
#include <string.h>
#include "data/nearest.h"
#include "train/config/field_impl.h"

static status_t refuse_empty(const cfg_place_t *p, const cfg_node_t *node) {
    if (node->kind == YAML_LIST && node->count == 0)
        return yaml_raise(p->src->name, p->line, "%s must not be an empty list", p->subject);
    return ST_OK;
}

/* Texts of a list that is one and not empty. */
static status_t copy_texts(const cfg_place_t *p, const cfg_node_t *list, cfg_strings_t *out) {
    void *memory;
    TRY(refuse_empty(p, list));
    TRY(cfg_pool_alloc(p->src->pool, (size_t)list->count * sizeof(const char *), &memory));
    const char **items = memory;
    int n = 0;
    for (const cfg_node_t *c = list->child; c; c = c->next) {
        if (!cfg_is_scalar(c) || !*c->text) return cfg_wrong_type(p, c, "a list of texts");
        TRY(cfg_copy_text(p, c->text, &items[n++]));
    }
    *out = (cfg_strings_t){items, n};
    return ST_OK;
}

status_t cfg_bind_strings(const cfg_place_t *p, const cfg_node_t *node) {
    if (node->kind != YAML_LIST) return cfg_wrong_type(p, node, "a list of texts");
    return copy_texts(p, node, p->member);
}

status_t cfg_bind_patterns(const cfg_place_t *p, const cfg_node_t *node) {
    cfg_patterns_t *out = p->member;
    cfg_strings_t list;
    if (cfg_is_scalar(node) && *node->text) return cfg_copy_text(p, node->text, &out->regex);
    if (node->kind != YAML_LIST) return cfg_wrong_type(p, node, "a text or a list of texts");
    TRY(copy_texts(p, node, &list));
    out->items = list.items;
    out->count = list.count;
    return ST_OK;
}

status_t cfg_bind_mapping(const cfg_place_t *p, const cfg_node_t *map, const cfg_field_t *fields, void *out) {
    for (const cfg_node_t *c = map->child; c; c = c->next) {
        if (cfg_field_find(fields, c->key)) continue;
        nearest_t near = {.word = c->key};
        for (const cfg_field_t *f = fields; f->name; f++) nearest_offer(&near, f->name);
        yaml_quote_t q = yaml_quote(c->key);
        if (near.best)
            return yaml_raise(p->src->name, c->line, "unknown key '%s' in %s (did you mean '%s'?)", q.text,
                              p->field->name, near.best);
        return yaml_raise(p->src->name, c->line, "unknown key '%s' in %s", q.text, p->field->name);
    }
    return cfg_bind(p->src, p->field->name, map->line, map, fields, out);
}

/* The members of a list, or the value itself as the only one. */
static int members(const cfg_node_t *node, const cfg_node_t **first) {
    *first = node->kind == YAML_LIST ? node->child : node;
    return node->kind == YAML_LIST ? node->count : 1;
}

static const cfg_field_t source_fields[] = {
    {"path", CFG_PATH, offsetof(cfg_source_t, path), NULL, 0, 0, NULL, "a file of examples", NULL, CFG_REQUIRED},
    {"weight", CFG_REAL, offsetof(cfg_source_t, weight), "1.0", 0, 1e15, NULL, "share of the stream", NULL, CFG_ABOVE},
    {0}};

static status_t bind_source(const cfg_place_t *p, const cfg_node_t *node, cfg_source_t *out) {
    if (cfg_is_scalar(node)) {
        out->weight = 1;
        return cfg_resolve_path(p, node, &out->path);
    }
    if (node->kind != YAML_MAP) return cfg_wrong_type(p, node, "a path, or a list of paths or {path, weight}");
    return cfg_bind_mapping(p, node, source_fields, out);
}

status_t cfg_bind_sources(const cfg_place_t *p, const cfg_node_t *node) {
    const cfg_node_t *c;
    void *memory;
    TRY(refuse_empty(p, node));
    int count = members(node, &c);
    TRY(cfg_pool_alloc(p->src->pool, (size_t)count * sizeof(cfg_source_t), &memory));
    cfg_source_t *items = memory;
    for (int i = 0; i < count; i++, c = c->next) TRY(bind_source(p, c, &items[i]));
    *(cfg_sources_t *)p->member = (cfg_sources_t){items, count};
    return ST_OK;
}

static const cfg_field_t choice_fields[] = {{"field", CFG_STRING, offsetof(cfg_choice_field_t, field), NULL, 0, 0, NULL,
                                             "a field of the examples", NULL, CFG_REQUIRED},
                                            {"values", CFG_STRINGS, offsetof(cfg_choice_field_t, values), NULL, 0, 0,
                                             NULL, "all that it may say", NULL, CFG_REQUIRED},
                                            {"num_virtual_tokens", CFG_INT,
                                             offsetof(cfg_choice_field_t, num_virtual_tokens), NULL, 1, 1 << 16, NULL,
                                             "virtual tokens of each value", NULL, 0},
                                            {0}};

static status_t refuse_repeated_value(const cfg_place_t *p, int line, const cfg_choice_field_t *f) {
    for (int i = 0; i < f->values.count; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(f->values.items[i], f->values.items[k]))
                return yaml_raise(p->src->name, line, "%s lists the value '%s' of '%s' twice; list it once", p->subject,
                                  yaml_quote(f->values.items[i]).text, yaml_quote(f->field).text);
    return ST_OK;
}

static status_t refuse_repeated_field(const cfg_place_t *p, int line, const cfg_choice_field_t *all, int last) {
    for (int i = 0; i < last; i++)
        if (!strcmp(all[i].field, all[last].field))
            return yaml_raise(p->src->name, line, "%s names the field '%s' twice; name it once", p->subject,
                              yaml_quote(all[i].field).text);
    return ST_OK;
}

status_t cfg_bind_fields(const cfg_place_t *p, const cfg_node_t *node) {
    const cfg_node_t *c;
    void *memory;
    TRY(refuse_empty(p, node));
    int count = members(node, &c);
    TRY(cfg_pool_alloc(p->src->pool, (size_t)count * sizeof(cfg_choice_field_t), &memory));
    cfg_choice_field_t *items = memory;
    for (int i = 0; i < count; i++, c = c->next) {
        if (c->kind != YAML_MAP) return cfg_wrong_type(p, c, "{field, values} or a list of them");
        TRY(cfg_bind_mapping(p, c, choice_fields, &items[i]));
        TRY(refuse_repeated_value(p, c->line, &items[i]));
        TRY(refuse_repeated_field(p, c->line, items, i));
    }
    *(cfg_fields_t *)p->member = (cfg_fields_t){items, count};
    return ST_OK;
}
