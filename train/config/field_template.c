#include <string.h>
#include "train/config/field_impl.h"

/* The values of `data.filter` and `conditioning.template`, whose structs belong to the data layer. */

/* The message of a check that knows no line, with one. */
static status_t at_line(const cfg_place_t *p, int line, status_t st) {
    if (st != ST_USAGE) return st;
    strbuf_t text = {0};
    TRY(strbuf_adds(&text, st_message()));
    st_clear();
    st = yaml_raise(p->src->name, line, "%s: %s", p->subject, text.data ? text.data : "");
    strbuf_release(&text);
    return st;
}

/* --- a number against a limit --- */

typedef struct limits {
    const char *field, *then, *otherwise;
    double at_most, at_least;
} limits_t;

#define LIMIT_ROWS                                                                                                     \
    {                                                                                                                  \
        "field", CFG_STRING, offsetof(limits_t, field),  NULL, 0,                                                      \
        0,       NULL,       "a number of the examples", NULL, CFG_REQUIRED},                                          \
        {"at_most", CFG_REAL, offsetof(limits_t, at_most), NULL, -1e300, 1e300, NULL, "highest value", "at_least", 0}, \
    {                                                                                                                  \
        "at_least", CFG_REAL, offsetof(limits_t, at_least), NULL, -1e300, 1e300, NULL, "lowest value", "at_most", 0    \
    }

static const cfg_field_t filter_fields[] = {LIMIT_ROWS, {0}};
static const cfg_field_t choose_fields[] = {
    LIMIT_ROWS,
    {"then", CFG_STRING, offsetof(limits_t, then), NULL, 0, 0, NULL, "text within the limit", NULL, CFG_REQUIRED},
    {"else", CFG_STRING, offsetof(limits_t, otherwise), NULL, 0, 0, NULL, "text beyond it", NULL, 0},
    {0}};

static status_t bind_limits(const cfg_place_t *p, const cfg_node_t *node, const cfg_field_t *fields, limits_t *in,
                            threshold_t *out) {
    if (node->kind != YAML_MAP) return cfg_wrong_type(p, node, "a mapping such as {field: score, at_most: 0.5}");
    TRY(cfg_bind_mapping(p, node, fields, in));
    bool least = !cfg_node_is_null(cfg_node_get(node, "at_least")),
         most = !cfg_node_is_null(cfg_node_get(node, "at_most"));
    if (!least && !most) return yaml_raise(p->src->name, node->line, "%s needs 'at_most' or 'at_least'", p->subject);
    *out = (threshold_t){in->field, least, least ? in->at_least : in->at_most};
    return ST_OK;
}

status_t cfg_bind_threshold(const cfg_place_t *p, const cfg_node_t *node) {
    limits_t in = {0};
    return bind_limits(p, node, filter_fields, &in, p->member);
}

static status_t format_limit(const threshold_t *t, strbuf_t *out) {
    TRY(strbuf_adds(out, "{field: "));
    TRY(cfg_format_string(t->field, out));
    TRY(strbuf_adds(out, t->at_least ? ", at_least: " : ", at_most: "));
    return cfg_format_real(t->limit, out);
}

status_t cfg_format_threshold(const threshold_t *t, strbuf_t *out) {
    if (!t->field) return strbuf_adds(out, "null");
    TRY(format_limit(t, out));
    return strbuf_adds(out, "}");
}

status_t cfg_bind_choose(const cfg_place_t *p, const cfg_node_t *node) {
    limits_t in = {0};
    cfg_choose_t *out = p->member;
    TRY(bind_limits(p, node, choose_fields, &in, &out->threshold));
    out->then = in.then;
    out->otherwise = in.otherwise;
    return ST_OK;
}

status_t cfg_format_choose(const cfg_choose_t *c, strbuf_t *out) {
    if (!c->threshold.field) return strbuf_adds(out, "null");
    TRY(format_limit(&c->threshold, out));
    TRY(strbuf_adds(out, ", then: "));
    TRY(cfg_format_string(c->then, out));
    if (c->otherwise) {
        TRY(strbuf_adds(out, ", else: "));
        TRY(cfg_format_string(c->otherwise, out));
    }
    return strbuf_adds(out, "}");
}

/* --- slots of a template --- */

typedef struct slot {
    int kind, missing;
    const char *text;
    cfg_choose_t choose;
    bool loss;
    double dropout;
} slot_t;

static const cfg_field_t slot_fields[] = {
    {"slot", CFG_CHOICE, offsetof(slot_t, kind), NULL, 0, 0, "metadata|control|document|suffix", "what it is", NULL,
     CFG_REQUIRED},
    {"text", CFG_STRING, offsetof(slot_t, text), NULL, 0, 0, NULL, "text with {field} placeholders", "choose", 0},
    {"choose", CFG_CHOOSE, offsetof(slot_t, choose), NULL, 0, 0, NULL, "a text by a number", "text", 0},
    {"loss", CFG_BOOL, offsetof(slot_t, loss), NULL, 0, 0, NULL, "its tokens are predicted", NULL, 0},
    {"dropout", CFG_REAL, offsetof(slot_t, dropout), "0.0", 0, 1, NULL, "share of sequences without it", NULL, 0},
    {"missing", CFG_CHOICE, offsetof(slot_t, missing), "error", 0, 0, "error|skip", "documents without a field", NULL,
     0},
    {0}};

static status_t bind_slot(const cfg_place_t *p, const cfg_node_t *map, condition_slot_t *out) {
    slot_t s = {0};
    if (map->kind != YAML_MAP) return cfg_wrong_type(p, map, "a list of slots such as {slot: metadata, text: ...}");
    TRY(cfg_bind_mapping(p, map, slot_fields, &s));
    bool document = s.kind == SLOT_DOCUMENT, given = !cfg_node_is_null(cfg_node_get(map, "loss"));
    *out = (condition_slot_t){.kind = (slot_kind_t)s.kind,
                              .text = document && !s.text && !s.choose.threshold.field ? "{text}" : s.text,
                              .choose = s.choose.threshold,
                              .then = s.choose.then,
                              .otherwise = s.choose.otherwise,
                              .loss = given ? s.loss : document,
                              .dropout = s.dropout,
                              .missing = (slot_missing_t)s.missing};
    return at_line(p, map->line, condition_check_slot(out));
}

status_t cfg_bind_template(const cfg_place_t *p, const cfg_node_t *node) {
    void *memory;
    if (node->kind != YAML_LIST || node->count == 0)
        return cfg_wrong_type(p, node, "a list of slots such as {slot: metadata, text: ...}");
    TRY(cfg_pool_alloc(p->src->pool, (size_t)node->count * sizeof(condition_slot_t), &memory));
    condition_slot_t *items = memory;
    int n = 0;
    for (const cfg_node_t *c = node->child; c; c = c->next) TRY(bind_slot(p, c, &items[n++]));
    *(cfg_template_t *)p->member = (cfg_template_t){items, n};
    return at_line(p, p->line, condition_check(items, n));
}

static status_t format_slot(const condition_slot_t *s, strbuf_t *out) {
    TRY(strbuf_addf(out, "{slot: %s, ", slot_kind_name(s->kind)));
    TRY(strbuf_adds(out, s->choose.field ? "choose: " : "text: "));
    const cfg_choose_t choose = {s->choose, s->then, s->otherwise};
    TRY(s->choose.field ? cfg_format_choose(&choose, out) : cfg_format_string(s->text, out));
    TRY(strbuf_addf(out, ", loss: %s, dropout: ", s->loss ? "true" : "false"));
    TRY(cfg_format_real(s->dropout, out));
    return strbuf_addf(out, ", missing: %s}", s->missing == MISSING_SKIP ? "skip" : "error");
}

status_t cfg_format_template(const cfg_template_t *t, strbuf_t *out) {
    for (int i = 0; i < t->count; i++) {
        TRY(strbuf_adds(out, i ? ", " : "["));
        TRY(format_slot(&t->items[i], out));
    }
    return strbuf_adds(out, t->count ? "]" : "null");
}
