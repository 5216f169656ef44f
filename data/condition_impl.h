/* A template as condition.c parses it and condition_render.c uses it; nobody else includes it. */
#pragma once
#include "data/condition.h"

/* A literal text, or a field to be put in. */
typedef struct condition_part {
    char *text;
    bool field;
} condition_part_t;

typedef struct condition_parts {
    condition_part_t *part; /* [n] */
    int n;
    int64_t cap;
} condition_parts_t;

typedef struct condition_compiled {
    condition_slot_t slot; /* its strings belong to `fields` of the template and to `then` and `otherwise` below */
    condition_parts_t text;
    char *then, *otherwise, *field; /* of the choice */
} condition_compiled_t;

struct condition {
    condition_use_t use;
    condition_compiled_t slot[CONDITION_MAX_SLOTS];
    int n;
    int document;       /* its place among the slots */
    const char **field; /* [n_field + 1] borrowed from the slots */
    int n_field;
    int64_t cap_field;
};

/* Cuts a text at its placeholders. ST_USAGE without a place. */
status_t condition_parse(const char *text, condition_parts_t *out);
void condition_parts_release(condition_parts_t *p);
/* Appends a JSON number as Python's json prints it: the shortest digits that read back as the same value. */
status_t condition_print_real(double v, strbuf_t *out);
