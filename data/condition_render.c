#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/condition_impl.h"
#include "data/json_line.h"
#include "kernels/philox.h"

/* --- values of fields --- */

status_t condition_print_real(double v, strbuf_t *out) {
    char text[40];
    int digits = 0;
    do snprintf(text, sizeof text, "%.*e", digits, v);
    while (strtod(text, NULL) != v && ++digits < 17);
    char *e = strchr(text, 'e');
    int exponent = atoi(e + 1);
    if (exponent >= -4 && exponent < 16) /* as many places as the digits need, at least one */
        return strbuf_addf(out, "%.*f", digits - exponent > 1 ? digits - exponent : 1, v);
    return strbuf_adds(out, text);
}

static status_t wrong_type(const char *field, const json_t *v, const char *want) {
    return st_raise(ST_INPUT, NULL, "field '%.80s' is %s; the template needs %s", field, json_line_type(v), want);
}

static status_t missing(const char *field) {
    return st_raise(ST_INPUT, NULL, "missing field '%.80s', which the template needs; add it, or set 'missing: skip'",
                    field);
}

static status_t print_value(const char *field, const json_t *v, strbuf_t *out) {
    switch (json_typeof(v)) {
    case JSON_STRING:
        return strbuf_add(out, json_string_value(v), json_string_length(v));
    case JSON_INTEGER:
        return strbuf_addf(out, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
    case JSON_REAL:
        return condition_print_real(json_real_value(v), out);
    case JSON_TRUE:
        return strbuf_adds(out, "true");
    case JSON_FALSE:
        return strbuf_adds(out, "false");
    default:
        return wrong_type(field, v, "a string, a number or a boolean");
    }
}

/* The value of a field; NULL when it is missing or null. */
static const json_t *value_of(const json_t *object, const char *field) {
    const json_t *v = object ? json_object_get(object, field) : NULL;
    return v && json_is_null(v) ? NULL : v;
}

static bool number_of(const json_t *v, bool as_text, double *out) {
    if (json_is_number(v)) {
        *out = json_number_value(v);
        return true;
    }
    if (!as_text || !json_is_string(v)) return false;
    const char *text = json_string_value(v);
    char *end;
    *out = strtod(text, &end);
    return *text && !*end && isfinite(*out);
}

status_t threshold_test(const threshold_t *t, const json_t *object, bool as_text, bool *known, bool *holds) {
    double x;
    const json_t *v = value_of(object, t->field);
    *holds = false;
    *known = v != NULL;
    if (!v) return ST_OK;
    if (!number_of(v, as_text, &x)) return wrong_type(t->field, v, "a number");
    *holds = t->at_least ? x >= t->limit : x <= t->limit;
    return ST_OK;
}

/* --- slots --- */

void condition_tokens_release(condition_tokens_t *t) {
    i32buf_release(&t->ids);
    strbuf_release(&t->text);
}

/* The slot's text; *there is false when it is left out. */
static status_t print_slot(const condition_t *c, const condition_compiled_t *s, const json_t *object, strbuf_t *out,
                           bool *there) {
    const char *absent = NULL;
    *there = true;
    if (s->field) {
        bool known, holds;
        TRY(threshold_test(&s->slot.choose, object, c->use.given != NULL, &known, &holds));
        if (!known) absent = s->field;
        const char *text = holds ? s->then : s->otherwise;
        if (known && text) TRY(strbuf_adds(out, text));
    }
    for (int i = 0; i < s->text.n && !absent; i++) {
        const condition_part_t *p = &s->text.part[i];
        const json_t *v = p->field ? value_of(object, p->text) : NULL;
        if (p->field && !v)
            absent = p->text;
        else
            TRY(p->field ? print_value(p->text, v, out) : strbuf_adds(out, p->text));
    }
    *there = !absent;
    return absent && s->slot.missing == MISSING_ERROR ? missing(absent) : ST_OK;
}

status_t condition_render(const condition_t *c, const encoder_t *e, const json_t *object, condition_tokens_t *out) {
    int last = c->use.given ? c->document : c->n;
    if (c->use.given) object = c->use.given;
    i32buf_clear(&out->ids);
    for (int k = 0; k < c->n; k++) {
        bool there = false;
        out->start[k] = out->ids.len;
        strbuf_clear(&out->text);
        if (k < last) TRY(print_slot(c, &c->slot[k], object, &out->text, &there));
        if (there && out->text.len) TRY(e->encode(e->self, out->text.data, out->text.len, &out->ids));
    }
    out->start[c->n] = out->ids.len;
    return ST_OK;
}

int64_t condition_head(const condition_t *c, const condition_tokens_t *t) {
    return t->start[c->document];
}

int64_t condition_loss(const condition_t *c, const condition_tokens_t *t) {
    int64_t n = 0;
    for (int k = 0; k < c->n; k++)
        if (c->slot[k].slot.loss) n += t->start[k + 1] - t->start[k];
    return n;
}

bool condition_first_weighs(const condition_t *c, const condition_tokens_t *t) {
    int k = 0;
    while (k < c->document && t->start[k + 1] == 0) k++;
    return k < c->document && c->slot[k].slot.loss;
}

/* --- into a sequence --- */

bool condition_drops(const condition_t *c, int k, int64_t place) {
    uint32_t words[4];
    double p = c->slot[k].slot.dropout;
    if (p <= 0 || place < 0) return false;
    rng_words(c->use.seed, RNG_CONDITION, (uint64_t)place, (uint64_t)k, words);
    return (double)rng_unit(words[0]) < p;
}

static status_t add_slots(const condition_t *c, const condition_tokens_t *t, int from, int to, int64_t place,
                          sequence_t *out) {
    for (int k = from; k < to; k++) {
        if (condition_drops(c, k, place)) continue;
        int64_t n = t->start[k + 1] - t->start[k];
        if (n) TRY(sequence_add(out, t->ids.data + t->start[k], n, c->slot[k].slot.loss ? 1.0f : 0.0f));
    }
    return ST_OK;
}

status_t condition_add_head(const condition_t *c, const condition_tokens_t *t, int64_t place, sequence_t *out) {
    return add_slots(c, t, 0, c->document, place, out);
}

status_t condition_add_tail(const condition_t *c, const condition_tokens_t *t, int64_t place, sequence_t *out) {
    return add_slots(c, t, c->document + 1, c->n, place, out);
}
