/* What the files that read values share. *local* */
#pragma once
#include "train/config/field.h"

/* One value on its way from a node to its member. */
typedef struct cfg_place {
    const cfg_source_file_t *src;
    const cfg_field_t *field;
    int line;
    char subject[160]; /* "'r' in method" */
    void *member;
} cfg_place_t;

bool cfg_is_scalar(const cfg_node_t *node); /* and not null */
/* ST_USAGE: "'r' in method must be EXPECTED, found ...". */
status_t cfg_wrong_type(const cfg_place_t *p, const cfg_node_t *node, const char *expected);
status_t cfg_copy_text(const cfg_place_t *p, const char *text, const char **out);
/* A path of the file starts at the file's directory, one of the command line at the current one. */
status_t cfg_resolve_path(const cfg_place_t *p, const cfg_node_t *node, const char **out);

/* field_list.c: values that are lists. */
status_t cfg_bind_patterns(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_bind_sources(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_bind_strings(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_bind_fields(const cfg_place_t *p, const cfg_node_t *node);
/* A mapping inside of the value: every key has a row, then all are bound. */
status_t cfg_bind_mapping(const cfg_place_t *p, const cfg_node_t *map, const cfg_field_t *fields, void *out);

/* field_template.c: values of the data layer. */
status_t cfg_bind_threshold(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_bind_choose(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_bind_template(const cfg_place_t *p, const cfg_node_t *node);
status_t cfg_format_threshold(const threshold_t *t, strbuf_t *out);
status_t cfg_format_choose(const cfg_choose_t *c, strbuf_t *out);
status_t cfg_format_template(const cfg_template_t *t, strbuf_t *out);
