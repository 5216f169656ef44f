#include "train/config/field_impl.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include "data/nearest.h"

const cfg_field_t *cfg_field_find(const cfg_field_t *fields, const char *name) {
    for (; fields->name; fields++)
        if (strcmp(fields->name, name) == 0) return fields;
    return NULL;
}

/* What stands there, for "found ...". */
static yaml_quote_t found(const cfg_node_t *node) {
    yaml_quote_t q;
    if (node->kind == YAML_MAP)
        snprintf(q.text, sizeof q.text, "a mapping");
    else if (node->kind == YAML_LIST)
        snprintf(q.text, sizeof q.text, "a list");
    else if (cfg_node_is_null(node))
        snprintf(q.text, sizeof q.text, "nothing");
    else
        snprintf(q.text, sizeof q.text, "'%.58s'", yaml_quote(node->text).text);
    return q;
}

status_t cfg_wrong_type(const cfg_place_t *p, const cfg_node_t *node, const char *expected) {
    return yaml_raise(p->src->name, p->line, "%s must be %s, found %s", p->subject, expected, found(node).text);
}

bool cfg_is_scalar(const cfg_node_t *node) {
    return node->kind == YAML_SCALAR && !cfg_node_is_null(node);
}

static status_t check_range(const cfg_place_t *p, double value, const cfg_node_t *node) {
    const cfg_field_t *f = p->field;
    bool low = value < f->min || ((f->flags & CFG_ABOVE) && value <= f->min);
    bool high = value > f->max || ((f->flags & CFG_BELOW) && value >= f->max);
    if (!low && !high) return ST_OK;
    char bound[96] = "";
    const char *from = f->flags & CFG_ABOVE ? "above" : "at least", *to = f->flags & CFG_BELOW ? "below" : "at most";
    if (f->max < 1e15)
        snprintf(bound, sizeof bound, "%s %.15g and %s %.15g", from, f->min, to, f->max);
    else
        snprintf(bound, sizeof bound, "%s %.15g", low ? from : to, low ? f->min : f->max);
    return cfg_wrong_type(p, node, bound);
}

static status_t bind_bool(const cfg_place_t *p, const cfg_node_t *node) {
    bool yes = node->text && !node->quoted && strcmp(node->text, "true") == 0;
    bool no = node->text && !node->quoted && strcmp(node->text, "false") == 0;
    if (!yes && !no) return cfg_wrong_type(p, node, "true or false");
    *(bool *)p->member = yes;
    return ST_OK;
}

static status_t bind_int(const cfg_place_t *p, const cfg_node_t *node) {
    const char *digits = cfg_is_scalar(node) ? node->text + (*node->text == '-' || *node->text == '+') : "";
    if (node->quoted || !*digits || digits[strspn(digits, "0123456789")]) return cfg_wrong_type(p, node, "an integer");
    errno = 0;
    long long v = strtoll(node->text, NULL, 10);
    if (errno == ERANGE) return cfg_wrong_type(p, node, "an integer of at most 18 digits");
    TRY(check_range(p, (double)v, node));
    *(int64_t *)p->member = v;
    return ST_OK;
}

/* [-+]? (digits [. digits*]? | . digits) ([eE] [-+]? digits)? : also 2e-4, which YAML 1.1 readers take for a text. */
static bool is_real(const char *t) {
    t += *t == '-' || *t == '+';
    size_t whole = strspn(t, "0123456789");
    t += whole;
    size_t part = 0;
    if (*t == '.') {
        part = strspn(t + 1, "0123456789");
        t += 1 + part;
    }
    if (whole + part == 0) return false;
    if (*t == 'e' || *t == 'E') {
        t += 1;
        t += *t == '-' || *t == '+';
        size_t exponent = strspn(t, "0123456789");
        if (exponent == 0) return false;
        t += exponent;
    }
    return *t == 0;
}

static status_t bind_real(const cfg_place_t *p, const cfg_node_t *node) {
    if (!cfg_is_scalar(node) || node->quoted || !is_real(node->text)) return cfg_wrong_type(p, node, "a number");
    double v = strtod(node->text, NULL);
    if (!isfinite(v)) return cfg_wrong_type(p, node, "a finite number");
    TRY(check_range(p, v, node));
    *(double *)p->member = v;
    return ST_OK;
}

/* "best-fit, wrapped, none" */
static void spell_choices(const char *choices, char *out, size_t size) {
    size_t n = 0;
    for (; *choices && n + 3 < size; choices++) {
        out[n++] = *choices == '|' ? ',' : *choices;
        if (*choices == '|') out[n++] = ' ';
    }
    out[n] = 0;
}

/* The index of `text` in the row's "a|b|c", or -1. */
static int choice_index(const cfg_field_t *f, const char *text) {
    size_t len = strlen(text);
    const char *c = f->choices;
    for (int i = 0; *c; i++) {
        size_t n = strcspn(c, "|");
        if (n == len && !(f->flags & CFG_NOCASE ? strncasecmp(c, text, n) : strncmp(c, text, n))) return i;
        c += n + (c[n] == '|');
    }
    return -1;
}

/* Small letters where the row disregards case. */
static void fold(const cfg_field_t *f, const char *text, char *out, size_t size) {
    snprintf(out, size, "%s", text);
    for (char *c = out; (f->flags & CFG_NOCASE) && *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
}

static status_t wrong_choice(const cfg_place_t *p, const cfg_node_t *node) {
    char list[256], folded[256], word[256], best[64];
    spell_choices(p->field->choices, list, sizeof list);
    fold(p->field, p->field->choices, folded, sizeof folded);
    fold(p->field, node->kind == YAML_SCALAR ? node->text : "", word, sizeof word);
    nearest_t near = {.word = word};
    nearest_offer_list(&near, folded, best, sizeof best);
    bool several = strchr(p->field->choices, '|') != NULL;
    if (near.best && several)
        return yaml_raise(p->src->name, p->line, "%s must be one of %s, found %s (did you mean '%s'?)", p->subject,
                          list, found(node).text, near.best);
    return yaml_raise(p->src->name, p->line, "%s must be %s%s, found %s", p->subject, several ? "one of " : "", list,
                      found(node).text);
}

static status_t bind_choice(const cfg_place_t *p, const cfg_node_t *node) {
    int i = cfg_is_scalar(node) ? choice_index(p->field, node->text) : -1;
    if (i < 0) return wrong_choice(p, node);
    *(int *)p->member = i;
    return ST_OK;
}

status_t cfg_copy_text(const cfg_place_t *p, const char *text, const char **out) {
    char *copy;
    TRY(cfg_pool_strndup(p->src->pool, text, strlen(text), &copy));
    *out = copy;
    return ST_OK;
}

/* A word of `choices` as the row spells it. */
static status_t bind_word(const cfg_place_t *p, const cfg_node_t *node) {
    int i = cfg_is_scalar(node) ? choice_index(p->field, node->text) : -1;
    if (i < 0) return wrong_choice(p, node);
    const char *c = p->field->choices;
    for (; i > 0; i--) c += strcspn(c, "|") + 1;
    char *copy;
    TRY(cfg_pool_strndup(p->src->pool, c, strcspn(c, "|"), &copy));
    *(const char **)p->member = copy;
    return ST_OK;
}

static status_t bind_string(const cfg_place_t *p, const cfg_node_t *node) {
    if (p->field->choices) return bind_word(p, node);
    if (!cfg_is_scalar(node)) return cfg_wrong_type(p, node, "a text");
    if (!*node->text) return yaml_raise(p->src->name, p->line, "%s must not be empty", p->subject);
    return cfg_copy_text(p, node->text, (const char **)p->member);
}

status_t cfg_resolve_path(const cfg_place_t *p, const cfg_node_t *node, const char **out) {
    if (!cfg_is_scalar(node)) return cfg_wrong_type(p, node, "a path");
    if (!*node->text) return yaml_raise(p->src->name, p->line, "%s must not be empty", p->subject);
    const char *dir = node->text[0] == '/' || node->line == YAML_LINE_COMMAND ? "" : p->src->dir;
    void *memory;
    TRY(cfg_pool_alloc(p->src->pool, strlen(dir) + strlen(node->text) + 1, &memory));
    char *path = memory;
    strcat(strcpy(path, dir), node->text);
    *out = path;
    return ST_OK;
}

static status_t bind_path(const cfg_place_t *p, const cfg_node_t *node) {
    if (p->field->choices && cfg_is_scalar(node) && choice_index(p->field, node->text) >= 0)
        return cfg_copy_text(p, node->text, (const char **)p->member);
    return cfg_resolve_path(p, node, (const char **)p->member);
}

static status_t bind_value(const cfg_place_t *p, const cfg_node_t *node) {
    switch (p->field->type) {
    case CFG_BOOL:
        return bind_bool(p, node);
    case CFG_INT:
        return bind_int(p, node);
    case CFG_REAL:
        return bind_real(p, node);
    case CFG_STRING:
        return bind_string(p, node);
    case CFG_PATH:
        return bind_path(p, node);
    case CFG_CHOICE:
        return bind_choice(p, node);
    case CFG_PATTERNS:
        return cfg_bind_patterns(p, node);
    case CFG_SOURCES:
        return cfg_bind_sources(p, node);
    case CFG_STRINGS:
        return cfg_bind_strings(p, node);
    case CFG_FIELDS:
        return cfg_bind_fields(p, node);
    case CFG_THRESHOLD:
        return cfg_bind_threshold(p, node);
    case CFG_CHOOSE:
        return cfg_bind_choose(p, node);
    case CFG_TEMPLATE:
        return cfg_bind_template(p, node);
    }
    return st_raise(ST_INTERNAL, p->field->name, "configuration row of unknown type");
}

/* Both partners given: reported at the later of the two, the command line counting as last. */
static status_t refuse_both(const cfg_source_file_t *src, const char *in, const cfg_node_t *a, const cfg_node_t *b) {
    bool b_later = a->line != YAML_LINE_COMMAND && (b->line == YAML_LINE_COMMAND || b->line > a->line);
    const cfg_node_t *later = b_later ? b : a, *earlier = b_later ? a : b;
    char line[32] = "";
    if (earlier->line > 0) snprintf(line, sizeof line, " (line %d)", earlier->line);
    return yaml_raise(src->name, later->line, "'%s' and '%s'%s%s exclude each other; keep one", later->key,
                      earlier->key, line, in);
}

static status_t bind_field(const cfg_source_file_t *src, const char *section, int line, const cfg_node_t *map,
                           const cfg_field_t *field, void *out) {
    cfg_place_t p = {.src = src, .field = field, .member = (char *)out + field->offset};
    char in[80] = "";
    if (*section) snprintf(in, sizeof in, " in %s", section);
    snprintf(p.subject, sizeof p.subject, "'%s'%s", field->name, in);
    const cfg_node_t *node = cfg_node_get(map, field->name);
    const cfg_node_t *partner = field->exclusive_with ? cfg_node_get(map, field->exclusive_with) : NULL;
    bool partner_given = !cfg_node_is_null(partner);
    bool optional = (!field->standard || field->exclusive_with) && !(field->flags & CFG_REQUIRED);
    if (node && !(optional && cfg_node_is_null(node))) {
        if (partner_given) return refuse_both(src, in, node, partner);
        p.line = node->line;
        return bind_value(&p, node);
    }
    if (field->flags & CFG_REQUIRED) return yaml_raise(src->name, line, "missing key '%s'%s", field->name, in);
    if (!field->standard || partner_given) return ST_OK;
    cfg_node_t standard = {.kind = YAML_SCALAR, .line = YAML_LINE_COMMAND, .text = field->standard};
    return bind_value(&p, &standard);
}

status_t cfg_bind(const cfg_source_file_t *src, const char *section, int line, const cfg_node_t *map,
                  const cfg_field_t *fields, void *out) {
    for (const cfg_field_t *f = fields; f->name; f++) TRY(bind_field(src, section, line, map, f, out));
    return ST_OK;
}
