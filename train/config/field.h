/* Configuration keys as rows of a table: one row gives a key's name, type, place in a struct, default, range and
 * meaning; reading, checking, writing out and comparing all follow from it. A training method describes its own keys
 * with such a table (train/config/config.h, method_fields_t).
 *
 * Errors are ST_USAGE and read `run.yaml:7: 'r' in method must be at least 1, found 0`. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "data/condition.h"
#include "kernels/buf.h"
#include "train/config/yaml_tree.h"

/* Type of the value and of the struct member behind it. */
typedef enum cfg_type {
    CFG_BOOL,   /* bool: true | false */
    CFG_INT,    /* int64_t */
    CFG_REAL,   /* double, finite */
    CFG_STRING, /* const char *: one of `choices` if there are any; NULL when not given */
    CFG_PATH, /* const char *: a path of the file system, or a word of `choices` taken as it is; NULL when not given */
    CFG_CHOICE,    /* int: index into `choices` */
    CFG_PATTERNS,  /* cfg_patterns_t */
    CFG_SOURCES,   /* cfg_sources_t */
    CFG_STRINGS,   /* cfg_strings_t: a list of texts */
    CFG_FIELDS,    /* cfg_fields_t: one {field, values, num_virtual_tokens} or a list of them */
    CFG_THRESHOLD, /* threshold_t: {field, at_most} or {field, at_least} */
    CFG_CHOOSE,    /* cfg_choose_t: a threshold with {then, else} */
    CFG_TEMPLATE,  /* cfg_template_t: a list of slots, checked as a whole */
} cfg_type_t;

/* A name pattern as in PEFT: a regular expression (or word such as all-linear) or a list of suffixes. */
typedef struct cfg_patterns {
    const char *regex;        /* NULL when a list, or nothing, was given */
    const char *const *items; /* [count] */
    int count;                /* 0 when a regex, or nothing, was given */
} cfg_patterns_t;

typedef struct cfg_source {
    const char *path;
    double weight; /* > 0; share of the stream, not normalised */
} cfg_source_t;

typedef struct cfg_sources {
    const cfg_source_t *items; /* [count] */
    int count;
} cfg_sources_t;

typedef struct cfg_strings {
    const char *const *items; /* [count], none empty */
    int count;                /* 0 when not given */
} cfg_strings_t;

/* A field of the examples by which each chooses among what a method learns. */
typedef struct cfg_choice_field {
    const char *field;
    cfg_strings_t values;       /* all that the field may say, each once */
    int64_t num_virtual_tokens; /* 0 when not given */
} cfg_choice_field_t;

typedef struct cfg_fields {
    const cfg_choice_field_t *items; /* [count], no field twice */
    int count;                       /* 0 when not given */
} cfg_fields_t;

/* One of two texts by a number of the examples. */
typedef struct cfg_choose {
    threshold_t threshold;        /* its field is NULL when not given */
    const char *then, *otherwise; /* otherwise: NULL when not given */
} cfg_choose_t;

typedef struct cfg_template {
    const condition_slot_t *items; /* [count] */
    int count;                     /* 0 when not given */
} cfg_template_t;

/* flags */
enum {
    CFG_REQUIRED = 1, /* must be given */
    CFG_FREE = 2,     /* may differ between a run and its continuation (see config_diff) */
    CFG_ABOVE = 4,    /* `min` itself is out of range */
    CFG_BELOW = 8,    /* `max` itself is out of range */
    CFG_NOCASE = 16   /* `choices` are compared without regard to case */
};

/* A table of rows ends with a row whose name is NULL. A number that is not given and has no default is 0; its row's
 * `min` must then be above 0, or 0 must mean "not given". Such keys, and keys with a partner, accept `null`. */
typedef struct cfg_field {
    const char *name;
    cfg_type_t type;
    size_t offset;              /* of the member in the section's struct */
    const char *standard;       /* the default as it would stand in the file, NULL for none */
    double min, max;            /* numbers; (0, 0) for the others */
    const char *choices;        /* "best-fit|wrapped|none" or NULL */
    const char *doc;            /* one line for users */
    const char *exclusive_with; /* the partner key of the same table that may not be given together with this one; the
                                   default does not apply when the partner is given */
    unsigned flags;
} cfg_field_t;

/* Where values come from and where their memory goes. */
typedef struct cfg_source_file {
    const char *name; /* of the file, for errors */
    const char *dir;  /* its directory with a final slash, or "": relative paths of the file are relative to it */
    cfg_pool_t *pool; /* owns all strings and arrays */
} cfg_source_file_t;

/* Fills `out` (the section's struct, zeroed) from the mapping `map` (NULL: everything default). `section` names it in
 * messages ("" for the top level), `line` is where it begins. Keys without a row are left alone (see
 * cfg_keys_check). */
status_t cfg_bind(const cfg_source_file_t *src, const char *section, int line, const cfg_node_t *map,
                  const cfg_field_t *fields, void *out);

/* The row of a name, or NULL. */
const cfg_field_t *cfg_field_find(const cfg_field_t *fields, const char *name);

/* Appends the member's value as it would stand in a file, on one line: numbers round-trip, paths are absolute, a value
 * not given is `null`. `base` is the section's struct. */
status_t cfg_format(const cfg_field_t *field, const void *base, strbuf_t *out);

/* Appends `text` as a YAML scalar, quoted where needed. */
status_t cfg_format_string(const char *text, strbuf_t *out);
/* Appends the shortest number that reads back as the same double and that every reader of YAML takes for one. */
status_t cfg_format_real(double v, strbuf_t *out);
