/* Options of a command as rows of a table: `--name value`, `--name=value`, and flags. Unknown ones name the nearest. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"

typedef enum option_kind { OPTION_FLAG, OPTION_STRING, OPTION_INT, OPTION_REAL, OPTION_LIST } option_kind_t;

enum { OPTION_LIST_MOST = 16 };
typedef struct option_list { /* an option that may be given several times */
    const char *item[OPTION_LIST_MOST];
    int count;
} option_list_t;

typedef struct option_row {
    const char *name; /* with its dashes; NULL ends the table */
    option_kind_t kind;
    void *out;       /* bool, const char *, int64_t, double, option_list_t */
    double min, max; /* numbers */
} option_row_t;

/* Fills positional[want]; ST_USAGE when a positional argument is missing or too many, with `usage` as the hint. */
status_t options_parse(int argc, char **argv, const option_row_t *rows, const char **positional, int want,
                       const char *usage);
