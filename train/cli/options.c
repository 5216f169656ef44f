#include "train/cli/options.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "data/nearest.h"

static const option_row_t *find(const option_row_t *rows, const char *name, size_t n) {
    for (const option_row_t *r = rows; r->name; r++)
        if (strlen(r->name) == n && !memcmp(r->name, name, n)) return r;
    return NULL;
}

static status_t unknown(const option_row_t *rows, const char *name) {
    nearest_t near = {.word = name};
    for (const option_row_t *r = rows; r->name; r++) nearest_offer(&near, r->name);
    if (near.best)
        return st_raise(ST_USAGE, "command line", "unknown option '%s' (did you mean '%s'?)", name, near.best);
    return st_raise(ST_USAGE, "command line", "unknown option '%s'", name);
}

static status_t number(const option_row_t *r, const char *text, double *out) {
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    if (end == text || *end || errno || *out != *out)
        return st_raise(ST_USAGE, "command line", "%s needs a number, found '%s'", r->name, text);
    if (*out < r->min || *out > r->max)
        return st_raise(ST_USAGE, "command line", "%s must be from %g to %g, found %s", r->name, r->min, r->max, text);
    if (r->kind == OPTION_INT && *out != (double)(int64_t)*out)
        return st_raise(ST_USAGE, "command line", "%s needs a whole number, found '%s'", r->name, text);
    return ST_OK;
}

static status_t set(const option_row_t *r, const char *text) {
    double v = 0;
    option_list_t *list = r->out;
    switch (r->kind) {
    case OPTION_FLAG:
        *(bool *)r->out = true;
        return ST_OK;
    case OPTION_STRING:
        *(const char **)r->out = text;
        return ST_OK;
    case OPTION_INT:
        TRY(number(r, text, &v));
        *(int64_t *)r->out = (int64_t)v;
        return ST_OK;
    case OPTION_REAL:
        TRY(number(r, text, &v));
        *(double *)r->out = v;
        return ST_OK;
    case OPTION_LIST:
        if (list->count == OPTION_LIST_MOST)
            return st_raise(ST_USAGE, "command line", "%s is given more than %d times", r->name, OPTION_LIST_MOST);
        list->item[list->count++] = text;
        return ST_OK;
    }
    return ST_OK;
}

status_t options_parse(int argc, char **argv, const option_row_t *rows, const char **positional, int want,
                       const char *usage) {
    int found = 0;
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "--", 2)) {
            if (found == want)
                return st_raise(ST_USAGE, "command line", "'%s' is one argument too many; usage: %s", argv[i], usage);
            positional[found++] = argv[i];
            continue;
        }
        const char *equals = strchr(argv[i], '='), *value = equals ? equals + 1 : NULL;
        const option_row_t *r = find(rows, argv[i], equals ? (size_t)(equals - argv[i]) : strlen(argv[i]));
        if (!r) return unknown(rows, argv[i]);
        if (r->kind == OPTION_FLAG && equals) return st_raise(ST_USAGE, "command line", "%s takes no value", r->name);
        if (r->kind != OPTION_FLAG && !equals) {
            if (i + 1 == argc) return st_raise(ST_USAGE, "command line", "%s needs a value", r->name);
            value = argv[++i];
        }
        TRY(set(r, value));
    }
    if (found < want) return st_raise(ST_USAGE, "command line", "an argument is missing; usage: %s", usage);
    return ST_OK;
}
