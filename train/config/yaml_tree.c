#include "train/config/yaml_tree.h"
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

/* --- memory --- */

struct cfg_block {
    struct cfg_block *next;
    max_align_t bytes[];
};

status_t cfg_pool_alloc(cfg_pool_t *pool, size_t bytes, void **out) {
    struct cfg_block *b = bytes < SIZE_MAX / 2 ? calloc(1, sizeof *b + bytes) : NULL;
    if (!b) return st_nomem("configuration", bytes);
    b->next = pool->head;
    pool->head = b;
    *out = b->bytes;
    return ST_OK;
}

status_t cfg_pool_strndup(cfg_pool_t *pool, const char *s, size_t n, char **out) {
    void *p;
    TRY(cfg_pool_alloc(pool, n + 1, &p));
    memcpy(p, s, n); /* the block is zeroed: the NUL is there */
    *out = p;
    return ST_OK;
}

void cfg_pool_release(cfg_pool_t *pool) {
    while (pool->head) {
        struct cfg_block *b = pool->head;
        pool->head = b->next;
        free(b);
    }
}

/* --- errors --- */

status_t yaml_raise(const char *name, int line, const char *fmt, ...) {
    char text[1024], where[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    if (line == YAML_LINE_COMMAND || !name)
        snprintf(where, sizeof where, "command line");
    else if (line == YAML_LINE_NONE)
        snprintf(where, sizeof where, "%s", name);
    else
        snprintf(where, sizeof where, "%s:%d", name, line);
    return st_raise(ST_USAGE, where, "%s", text);
}

yaml_quote_t yaml_quote(const char *text) {
    enum { SHOWN = 48 };
    yaml_quote_t q;
    size_t n = strlen(text);
    bool cut = n > SHOWN;
    if (cut) {
        n = SHOWN;
        while (n > 0 && ((unsigned char)text[n] & 0xC0) == 0x80) n--; /* do not split a character */
    }
    for (size_t i = 0; i < n; i++) q.text[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7F ? '?' : text[i];
    snprintf(q.text + n, sizeof q.text - n, "%s", cut ? "..." : "");
    return q;
}

/* --- nodes --- */

cfg_node_t *cfg_node_get(const cfg_node_t *map, const char *key) {
    if (!map || map->kind != YAML_MAP) return NULL;
    for (cfg_node_t *c = map->child; c; c = c->next)
        if (strcmp(c->key, key) == 0) return c;
    return NULL;
}

bool cfg_node_is_null(const cfg_node_t *node) {
    if (!node) return true;
    if (node->kind != YAML_SCALAR || node->quoted) return false;
    const char *t = node->text;
    return !*t || !strcmp(t, "~") || !strcmp(t, "null") || !strcmp(t, "Null") || !strcmp(t, "NULL");
}

status_t cfg_node_put(cfg_pool_t *pool, cfg_node_t *map, const char *key, cfg_node_t *value) {
    char *copy;
    TRY(cfg_pool_strndup(pool, key, strlen(key), &copy));
    value->key = copy;
    value->next = NULL;
    cfg_node_t **link = &map->child;
    for (; *link; link = &(*link)->next) {
        if (strcmp((*link)->key, key) == 0) {
            value->next = (*link)->next;
            *link = value;
            return ST_OK;
        }
    }
    *link = value;
    map->count++;
    return ST_OK;
}

/* --- parser --- */

typedef struct reader {
    yaml_parser_t parser;
    cfg_pool_t *pool;
    const char *name; /* NULL: command line */
} reader_t;

static int line_of(const reader_t *r, yaml_mark_t mark) {
    return r->name ? (int)mark.line + 1 : YAML_LINE_COMMAND;
}

/* The next event; the caller deletes it. */
static status_t next_event(reader_t *r, yaml_event_t *event) {
    if (yaml_parser_parse(&r->parser, event)) return ST_OK;
    const yaml_parser_t *p = &r->parser;
    if (p->error == YAML_MEMORY_ERROR) return st_nomem("YAML parser", 0);
    const char *problem = p->problem ? p->problem : "unreadable";
    return yaml_raise(r->name, line_of(r, p->problem_mark), "not valid YAML: %s", problem);
}

static status_t refuse_extras(const reader_t *r, int line, const yaml_char_t *anchor, const yaml_char_t *tag) {
    if (anchor)
        return yaml_raise(r->name, line, "anchor '&%s' is not allowed; write the value out",
                          yaml_quote((const char *)anchor).text);
    if (tag) return yaml_raise(r->name, line, "tag '%s' is not allowed; remove it", yaml_quote((const char *)tag).text);
    return ST_OK;
}

static status_t read_scalar(reader_t *r, const yaml_event_t *e, cfg_node_t *node) {
    const char *text = (const char *)e->data.scalar.value;
    size_t len = e->data.scalar.length;
    TRY(refuse_extras(r, node->line, e->data.scalar.anchor, e->data.scalar.tag));
    if (memchr(text, 0, len)) return yaml_raise(r->name, node->line, "a text contains a NUL character; remove it");
    char *copy;
    TRY(cfg_pool_strndup(r->pool, text, len, &copy));
    node->kind = YAML_SCALAR;
    node->quoted = e->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
    node->text = copy;
    return ST_OK;
}

static status_t read_node(reader_t *r, const yaml_event_t *first, int depth, cfg_node_t **out);

static status_t read_list(reader_t *r, cfg_node_t *list, int depth) {
    cfg_node_t **tail = &list->child;
    for (;;) {
        yaml_event_t e;
        TRY(next_event(r, &e));
        bool end = e.type == YAML_SEQUENCE_END_EVENT;
        status_t st = end ? ST_OK : read_node(r, &e, depth + 1, tail);
        yaml_event_delete(&e);
        if (end || st != ST_OK) return st;
        tail = &(*tail)->next;
        list->count++;
    }
}

static status_t read_key(reader_t *r, const yaml_event_t *e, const cfg_node_t *map, cfg_node_t *key) {
    key->line = line_of(r, e->start_mark);
    if (e->type != YAML_SCALAR_EVENT)
        return yaml_raise(r->name, key->line, "a key must be a plain word, found a list, a mapping or an alias");
    TRY(read_scalar(r, e, key));
    const cfg_node_t *same = cfg_node_get(map, key->text);
    yaml_quote_t q = yaml_quote(key->text);
    if (same && r->name)
        return yaml_raise(r->name, key->line, "duplicate key '%s', first in line %d; keep one", q.text, same->line);
    if (same) return yaml_raise(r->name, key->line, "duplicate key '%s'; keep one", q.text);
    if (map->count == YAML_KEYS_MAX)
        return yaml_raise(r->name, key->line, "more than %d keys in one mapping", YAML_KEYS_MAX);
    return ST_OK;
}

static status_t read_map(reader_t *r, cfg_node_t *map, int depth) {
    cfg_node_t **tail = &map->child;
    for (;;) {
        yaml_event_t e;
        cfg_node_t key = {0};
        TRY(next_event(r, &e));
        bool end = e.type == YAML_MAPPING_END_EVENT;
        status_t st = end ? ST_OK : read_key(r, &e, map, &key);
        yaml_event_delete(&e);
        if (end || st != ST_OK) return st;
        TRY(next_event(r, &e));
        cfg_node_t *value = NULL;
        st = read_node(r, &e, depth + 1, &value);
        yaml_event_delete(&e);
        TRY(st);
        value->key = key.text;
        value->line = key.line;
        *tail = value;
        tail = &value->next;
        map->count++;
    }
}

static status_t read_node(reader_t *r, const yaml_event_t *first, int depth, cfg_node_t **out) {
    void *memory;
    TRY(cfg_pool_alloc(r->pool, sizeof(cfg_node_t), &memory));
    cfg_node_t *node = memory;
    node->line = line_of(r, first->start_mark);
    if (depth > YAML_DEPTH_MAX)
        return yaml_raise(r->name, node->line, "nested more than %d levels deep", YAML_DEPTH_MAX);
    switch (first->type) {
    case YAML_SCALAR_EVENT:
        TRY(read_scalar(r, first, node));
        break;
    case YAML_SEQUENCE_START_EVENT:
        node->kind = YAML_LIST;
        TRY(refuse_extras(r, node->line, first->data.sequence_start.anchor, first->data.sequence_start.tag));
        TRY(read_list(r, node, depth));
        break;
    case YAML_MAPPING_START_EVENT:
        node->kind = YAML_MAP;
        TRY(refuse_extras(r, node->line, first->data.mapping_start.anchor, first->data.mapping_start.tag));
        TRY(read_map(r, node, depth));
        break;
    case YAML_ALIAS_EVENT:
        return yaml_raise(r->name, node->line, "alias '*%s' is not allowed; write the value out",
                          yaml_quote((const char *)first->data.alias.anchor).text);
    default:
        return yaml_raise(r->name, node->line, "not valid YAML");
    }
    *out = node;
    return ST_OK;
}

/* Events of a stream: start, documents (start, node, end), end. */
static status_t read_stream(reader_t *r, cfg_node_t **root) {
    cfg_node_t *found = NULL;
    for (;;) {
        yaml_event_t e;
        status_t st = next_event(r, &e);
        TRY(st);
        bool end = e.type == YAML_STREAM_END_EVENT;
        bool frame = e.type == YAML_STREAM_START_EVENT || e.type == YAML_DOCUMENT_END_EVENT;
        if (e.type == YAML_DOCUMENT_START_EVENT) {
            frame = true;
            if (found) st = yaml_raise(r->name, line_of(r, e.start_mark), "a second document; keep one");
        }
        if (!end && !frame) st = read_node(r, &e, 1, &found);
        yaml_event_delete(&e);
        TRY(st);
        if (end) break;
    }
    *root = found && found->kind == YAML_SCALAR && r->name && cfg_node_is_null(found) ? NULL : found;
    return ST_OK;
}

/* The line (from 1) of the first byte that is not part of valid UTF-8 (RFC 3629) or is NUL; 0 if all is well. */
static int bad_utf8_line(const unsigned char *s, size_t len) {
    int line = 1;
    for (size_t i = 0; i < len;) {
        unsigned char c = s[i];
        size_t more = c < 0x80                ? 0
                      : c >= 0xC2 && c < 0xE0 ? 1
                      : c >= 0xE0 && c < 0xF0 ? 2
                      : c >= 0xF0 && c < 0xF5 ? 3
                                              : 4;
        if (c == 0 || more == 4 || i + more >= len) return line;
        for (size_t k = 1; k <= more; k++)
            if ((s[i + k] & 0xC0) != 0x80) return line;
        if ((c == 0xE0 && s[i + 1] < 0xA0) || (c == 0xED && s[i + 1] > 0x9F) || (c == 0xF0 && s[i + 1] < 0x90) ||
            (c == 0xF4 && s[i + 1] > 0x8F))
            return line;
        line += c == '\n';
        i += more + 1;
    }
    return 0;
}

status_t yaml_tree_parse(cfg_pool_t *pool, const char *name, const char *text, size_t len, cfg_node_t **root) {
    if (len > YAML_BYTES_MAX)
        return yaml_raise(name, YAML_LINE_NONE, "larger than %d bytes; this is not a configuration", YAML_BYTES_MAX);
    int bad = bad_utf8_line((const unsigned char *)text, len);
    if (bad) return yaml_raise(name, bad, "not valid UTF-8 text; save the file as UTF-8");
    reader_t r = {.pool = pool, .name = name};
    if (!yaml_parser_initialize(&r.parser)) return st_nomem("YAML parser", 0);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
    status_t st = read_stream(&r, root);
    yaml_parser_delete(&r.parser);
    return st;
}
