#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "train/config/field_impl.h"

/* Spelt with a point, also before an exponent (2.0e-05). */
status_t cfg_format_real(double v, strbuf_t *out) {
    char text[40];
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, v);
        if (strtod(text, NULL) == v) break;
    }
    char *e = strchr(text, 'e');
    if (strchr(text, '.')) return strbuf_adds(out, text);
    if (!e) return strbuf_addf(out, "%s.0", text);
    return strbuf_addf(out, "%.*s.0%s", (int)(e - text), text, e);
}

static bool is_plain(const char *s) {
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_/.-";
    /* words that some reader of YAML takes for a boolean, null or number */
    static const char *const taken[] = {"null", "true", "false", "yes", "no", "on", "off", "y", "n"};
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (strcasecmp(s, taken[i]) == 0) return false;
    bool start = *s == '/' || (*s && strchr(letters, *s));
    return start && s[strspn(s, more)] == 0;
}

status_t cfg_format_string(const char *text, strbuf_t *out) {
    if (is_plain(text)) return strbuf_adds(out, text);
    TRY(strbuf_adds(out, "\""));
    for (const char *c = text; *c; c++) {
        unsigned char u = (unsigned char)*c;
        if (u == '"' || u == '\\')
            TRY(strbuf_addf(out, "\\%c", u));
        else if (u == '\n')
            TRY(strbuf_adds(out, "\\n"));
        else if (u < 0x20 || u == 0x7F)
            TRY(strbuf_addf(out, "\\x%02X", u));
        else
            TRY(strbuf_add(out, c, 1));
    }
    return strbuf_adds(out, "\"");
}

/* Absolute, so that the text means the same wherever it is read again; "." and doubled slashes go, ".." stays because
 * links may stand before it. */
static status_t absolute_path(const char *path, strbuf_t *out) {
    if (*path != '/') {
        char *cwd = getcwd(NULL, 0);
        if (!cwd) return st_raise(ST_IO, path, "cannot tell the current directory");
        status_t st = strcmp(cwd, "/") ? strbuf_adds(out, cwd) : ST_OK;
        free(cwd);
        TRY(st);
    }
    while (*path) {
        path += strspn(path, "/");
        size_t n = strcspn(path, "/");
        if (n && !(n == 1 && *path == '.')) TRY(strbuf_addf(out, "/%.*s", (int)n, path));
        path += n;
    }
    return out->len ? ST_OK : strbuf_adds(out, "/");
}

static status_t format_path(const char *path, strbuf_t *out) {
    strbuf_t full = {0};
    status_t st = absolute_path(path, &full);
    if (st == ST_OK) st = cfg_format_string(full.data, out);
    strbuf_release(&full);
    return st;
}

/* Is `text` a word of "a|b|c"? */
static bool is_word(const char *choices, const char *text) {
    size_t len = strlen(text);
    for (; choices && *choices; choices += strcspn(choices, "|"), choices += *choices == '|')
        if (strcspn(choices, "|") == len && memcmp(choices, text, len) == 0) return true;
    return false;
}

static status_t format_choice(const char *choices, int index, strbuf_t *out) {
    for (; index > 0; index--) choices += strcspn(choices, "|") + 1;
    char word[64];
    snprintf(word, sizeof word, "%.*s", (int)strcspn(choices, "|"), choices);
    return cfg_format_string(word, out);
}

static status_t format_texts(const char *const *items, int count, strbuf_t *out) {
    if (count == 0) return strbuf_adds(out, "null");
    for (int i = 0; i < count; i++) {
        TRY(strbuf_adds(out, i ? ", " : "["));
        TRY(cfg_format_string(items[i], out));
    }
    return strbuf_adds(out, "]");
}

static status_t format_patterns(const cfg_patterns_t *p, strbuf_t *out) {
    return p->regex ? cfg_format_string(p->regex, out) : format_texts(p->items, p->count, out);
}

static status_t format_fields(const cfg_fields_t *f, strbuf_t *out) {
    for (int i = 0; i < f->count; i++) {
        const cfg_choice_field_t *c = &f->items[i];
        TRY(strbuf_adds(out, i ? ", {field: " : "[{field: "));
        TRY(cfg_format_string(c->field, out));
        TRY(strbuf_adds(out, ", values: "));
        TRY(format_texts(c->values.items, c->values.count, out));
        if (c->num_virtual_tokens)
            TRY(strbuf_addf(out, ", num_virtual_tokens: %lld", (long long)c->num_virtual_tokens));
        TRY(strbuf_adds(out, "}"));
    }
    return strbuf_adds(out, f->count ? "]" : "null");
}

static status_t format_sources(const cfg_sources_t *s, strbuf_t *out) {
    for (int i = 0; i < s->count; i++) {
        TRY(strbuf_adds(out, i ? ", {path: " : "[{path: "));
        TRY(format_path(s->items[i].path, out));
        TRY(strbuf_adds(out, ", weight: "));
        TRY(cfg_format_real(s->items[i].weight, out));
        TRY(strbuf_adds(out, "}"));
    }
    return strbuf_adds(out, s->count ? "]" : "null");
}

status_t cfg_format(const cfg_field_t *field, const void *base, strbuf_t *out) {
    const void *member = (const char *)base + field->offset;
    /* a 0 that could not have been given stands for "not given" */
    bool open = (!field->standard && !(field->flags & CFG_REQUIRED)) || field->exclusive_with;
    switch (field->type) {
    case CFG_BOOL:
        return strbuf_adds(out, *(const bool *)member ? "true" : "false");
    case CFG_INT: {
        int64_t v = *(const int64_t *)member;
        return v == 0 && open ? strbuf_adds(out, "null") : strbuf_addf(out, "%lld", (long long)v);
    }
    case CFG_REAL: {
        double v = *(const double *)member;
        return v == 0 && open ? strbuf_adds(out, "null") : cfg_format_real(v, out);
    }
    case CFG_STRING: {
        const char *s = *(const char *const *)member;
        return s ? cfg_format_string(s, out) : strbuf_adds(out, "null");
    }
    case CFG_PATH: {
        const char *s = *(const char *const *)member;
        if (!s) return strbuf_adds(out, "null");
        return is_word(field->choices, s) ? cfg_format_string(s, out) : format_path(s, out);
    }
    case CFG_CHOICE:
        return format_choice(field->choices, *(const int *)member, out);
    case CFG_PATTERNS:
        return format_patterns(member, out);
    case CFG_SOURCES:
        return format_sources(member, out);
    case CFG_STRINGS: {
        const cfg_strings_t *list = member;
        return format_texts(list->items, list->count, out);
    }
    case CFG_FIELDS:
        return format_fields(member, out);
    case CFG_THRESHOLD:
        return cfg_format_threshold(member, out);
    case CFG_CHOOSE:
        return cfg_format_choose(member, out);
    case CFG_TEMPLATE:
        return cfg_format_template(member, out);
    }
    return st_raise(ST_INTERNAL, field->name, "configuration row of unknown type");
}
