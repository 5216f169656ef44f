/* A YAML document as a tree of nodes that remember their lines.
 *
 * Only what a configuration needs is YAML here: one document of mappings, lists and scalars. Anchors, aliases, tags,
 * duplicate keys, keys that are not scalars, a second document, bytes that are not UTF-8, NUL, and nesting beyond
 * YAML_DEPTH_MAX are errors (ST_USAGE) that name file and line. All memory belongs to a pool and lives as long as it.
 * All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "kernels/status.h"

enum {
    YAML_DEPTH_MAX = 16,         /* nesting of mappings and lists */
    YAML_KEYS_MAX = 256,         /* keys of one mapping */
    YAML_BYTES_MAX = 256 * 1024, /* size of a document */
    YAML_LINE_COMMAND = 0,       /* "line" of what was given on the command line */
    YAML_LINE_NONE = -1          /* an error of the file as a whole */
};

/* Memory that is released all at once; a zeroed pool is valid and empty. */
typedef struct cfg_pool {
    struct cfg_block *head;
} cfg_pool_t;

status_t cfg_pool_alloc(cfg_pool_t *pool, size_t bytes, void **out); /* zeroed, aligned for any object */
status_t cfg_pool_strndup(cfg_pool_t *pool, const char *s, size_t n, char **out);
void cfg_pool_release(cfg_pool_t *pool);

typedef enum yaml_kind { YAML_SCALAR, YAML_LIST, YAML_MAP } yaml_kind_t;

typedef struct cfg_node {
    yaml_kind_t kind;
    int line;               /* of the key in a mapping, else of the value; from 1, or YAML_LINE_COMMAND */
    bool quoted;            /* the scalar stood in quotes or was a block: it is a string, never a number or null */
    const char *text;       /* of a scalar, without NUL inside */
    const char *key;        /* in a mapping */
    struct cfg_node *child; /* first member of a mapping or list */
    struct cfg_node *next;  /* next member of the same parent */
    int count;              /* of members */
} cfg_node_t;

/* Parses `len` bytes. `name` is the file's name for errors, NULL for a value from the command line, whose nodes get
 * YAML_LINE_COMMAND. An empty document gives *root = NULL. */
status_t yaml_tree_parse(cfg_pool_t *pool, const char *name, const char *text, size_t len, cfg_node_t **root);

cfg_node_t *cfg_node_get(const cfg_node_t *map, const char *key); /* NULL if absent or `map` is no mapping */
bool cfg_node_is_null(const cfg_node_t *node);                    /* NULL, empty, `~` or `null` */

/* Puts `value` under `key` of a mapping, in the place of a value that was there. */
status_t cfg_node_put(cfg_pool_t *pool, cfg_node_t *map, const char *key, cfg_node_t *value);

/* Raises ST_USAGE at `name:line`, at "command line" for YAML_LINE_COMMAND, at `name` for YAML_LINE_NONE. */
status_t yaml_raise(const char *name, int line, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* A short printable form of user text for messages: at most 48 bytes, whole UTF-8 characters, no control characters. */
typedef struct yaml_quote {
    char text[64];
} yaml_quote_t;
yaml_quote_t yaml_quote(const char *text);
