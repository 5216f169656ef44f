#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/condition_impl.h"

static const char *const kinds[SLOT_KIND_COUNT] = {"metadata", "control", "document", "suffix"};

const char *slot_kind_name(slot_kind_t k) {
    return kinds[k];
}

/* --- texts with placeholders --- */

void condition_parts_release(condition_parts_t *p) {
    for (int i = 0; i < p->n; i++) free(p->part[i].text);
    free(p->part);
    *p = (condition_parts_t){0};
}

static status_t add_part(condition_parts_t *out, const strbuf_t *text, bool field) {
    void *memory = out->part;
    if (!text->len) return ST_OK;
    TRY(buf_reserve(&memory, &out->cap, out->n + 1, sizeof *out->part, "template"));
    out->part = memory;
    char *copy = buf_strdup(text->data);
    if (!copy) return ST_NOMEM;
    out->part[out->n++] = (condition_part_t){copy, field};
    return ST_OK;
}

static status_t add_field(const char *from, const char **end, condition_parts_t *out) {
    size_t n = strcspn(from, "{}");
    strbuf_t name = {0};
    if (from[n] != '}')
        return st_raise(ST_USAGE, NULL, "a '{' has no '}' behind its field; write {{ for a brace that is text");
    if (n == 0) return st_raise(ST_USAGE, NULL, "'{}' names no field; write {domain}, or {{ and }} for braces");
    status_t st = strbuf_add(&name, from, n);
    if (st == ST_OK) st = add_part(out, &name, true);
    strbuf_release(&name);
    *end = from + n + 1;
    return st;
}

static status_t parse(const char *c, strbuf_t *literal, condition_parts_t *out) {
    while (*c) {
        if ((*c == '{' || *c == '}') && c[1] == *c) { /* a doubled brace is one that is text */
            TRY(strbuf_add(literal, c, 1));
            c += 2;
        } else if (*c == '}') {
            return st_raise(ST_USAGE, NULL, "a '}' has no '{' before it; write }} for a brace that is text");
        } else if (*c == '{') {
            TRY(add_part(out, literal, false));
            strbuf_clear(literal);
            TRY(add_field(c + 1, &c, out));
        } else {
            TRY(strbuf_add(literal, c++, 1));
        }
    }
    return add_part(out, literal, false);
}

status_t condition_parse(const char *text, condition_parts_t *out) {
    strbuf_t literal = {0};
    status_t st = parse(text, &literal, out);
    strbuf_release(&literal);
    if (st != ST_OK) condition_parts_release(out);
    return st;
}

/* --- checks --- */

static status_t check_document(const condition_slot_t *s) {
    if (s->choose.field || !s->text || strcmp(s->text, "{text}"))
        return st_raise(ST_USAGE, NULL,
                        "the text of the document slot is \"{text}\"; put what surrounds it into slots "
                        "of their own");
    if (s->dropout > 0) return st_raise(ST_USAGE, NULL, "the document slot has dropout; only other slots may");
    if (s->missing != MISSING_ERROR) return st_raise(ST_USAGE, NULL, "the document slot must not be missing");
    return ST_OK;
}

static status_t check_choice(const condition_slot_t *s) {
    if (!s->choose.field[0]) return st_raise(ST_USAGE, NULL, "'choose' names no field");
    if (!isfinite(s->choose.limit)) return st_raise(ST_USAGE, NULL, "the limit of 'choose' must be finite");
    if (!s->then) return st_raise(ST_USAGE, NULL, "'choose' needs 'then'");
    return ST_OK;
}

static status_t check_text(const char *text) {
    condition_parts_t parts = {0};
    TRY(condition_parse(text, &parts));
    bool document = false;
    for (int i = 0; i < parts.n; i++) document |= parts.part[i].field && !strcmp(parts.part[i].text, "text");
    condition_parts_release(&parts);
    if (document) return st_raise(ST_USAGE, NULL, "{text} may stand in the document slot alone");
    return ST_OK;
}

status_t condition_check_slot(const condition_slot_t *s) {
    if ((unsigned)s->kind >= SLOT_KIND_COUNT) return st_raise(ST_INTERNAL, NULL, "slot of kind %d", (int)s->kind);
    if (!(s->dropout >= 0 && s->dropout <= 1)) return st_raise(ST_USAGE, NULL, "'dropout' must be from 0 to 1");
    if (s->kind == SLOT_DOCUMENT) return check_document(s);
    if (s->text && s->choose.field) return st_raise(ST_USAGE, NULL, "'text' and 'choose' exclude each other; keep one");
    if (s->choose.field) return check_choice(s);
    if (!s->text || !s->text[0]) return st_raise(ST_USAGE, NULL, "the slot has no text; give it 'text' or 'choose'");
    return check_text(s->text);
}

status_t condition_check(const condition_slot_t *slots, int n) {
    int documents = 0, sure = 0;
    if (n > CONDITION_MAX_SLOTS)
        return st_raise(ST_USAGE, NULL, "the template has %d slots; at most %d are allowed", n, CONDITION_MAX_SLOTS);
    for (int i = 0; i < n; i++) {
        TRY(condition_check_slot(&slots[i]));
        documents += slots[i].kind == SLOT_DOCUMENT;
        sure += slots[i].loss && slots[i].dropout == 0;
        if (slots[i].kind == SLOT_SUFFIX && !documents)
            return st_raise(ST_USAGE, NULL,
                            "a suffix slot stands before the document; move it behind, or call it "
                            "metadata or control");
    }
    if (documents != 1)
        return st_raise(ST_USAGE, NULL,
                        "the template has %d document slots; exactly one {slot: document, text: \"{text}\"} is needed",
                        documents);
    if (!sure)
        return st_raise(ST_USAGE, NULL, "no slot is always there and has a loss; give the document 'loss: true'");
    return ST_OK;
}

/* --- the template --- */

static status_t note_field(condition_t *c, const char *name) {
    for (int i = 0; i < c->n_field; i++)
        if (!strcmp(c->field[i], name)) return ST_OK;
    void *memory = c->field;
    TRY(buf_reserve(&memory, &c->cap_field, c->n_field + 2, sizeof *c->field, "template"));
    c->field = memory;
    c->field[c->n_field++] = name;
    c->field[c->n_field] = NULL;
    return ST_OK;
}

static status_t copy(const char *text, char **out) {
    if (text && !(*out = buf_strdup(text))) return ST_NOMEM;
    return ST_OK;
}

static status_t compile(condition_t *c, const condition_slot_t *from) {
    condition_compiled_t *to = &c->slot[c->n++];
    to->slot = *from;
    if (c->use.document_only) to->slot.loss = from->kind == SLOT_DOCUMENT;
    if (c->use.given) to->slot.missing = MISSING_SKIP;
    if (from->kind == SLOT_DOCUMENT) {
        c->document = c->n - 1;
        return ST_OK;
    }
    TRY(copy(from->then, &to->then));
    TRY(copy(from->otherwise, &to->otherwise));
    TRY(copy(from->choose.field, &to->field));
    to->slot.text = NULL;
    to->slot.choose.field = to->field;
    if (to->field) return note_field(c, to->field);
    TRY(condition_parse(from->text, &to->text));
    for (int i = 0; i < to->text.n; i++)
        if (to->text.part[i].field) TRY(note_field(c, to->text.part[i].text));
    return ST_OK;
}

status_t condition_open(const condition_slot_t *slots, int n, const condition_use_t *use, condition_t **out) {
    void *memory;
    TRY(condition_check(slots, n));
    TRY(buf_calloc(&memory, 1, sizeof(condition_t), "template"));
    condition_t *c = memory;
    c->use = *use;
    for (int i = 0; i < n; i++) {
        status_t st = compile(c, &slots[i]);
        if (st == ST_OK) continue;
        condition_close(c);
        return st;
    }
    *out = c;
    return ST_OK;
}

void condition_close(condition_t *c) {
    if (!c) return;
    for (int i = 0; i < c->n; i++) {
        condition_parts_release(&c->slot[i].text);
        free(c->slot[i].then);
        free(c->slot[i].otherwise);
        free(c->slot[i].field);
    }
    free(c->field);
    free(c);
}

const char *condition_field(const condition_t *c, int i) {
    return i >= 0 && i < c->n_field ? c->field[i] : NULL;
}

float condition_document_weight(const condition_t *c) {
    return c->slot[c->document].slot.loss ? 1.0f : 0.0f;
}

bool condition_given(const condition_t *c) {
    return c->use.given != NULL;
}
