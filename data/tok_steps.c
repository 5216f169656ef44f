/* Constructors of the pipeline's steps, shared by both kinds of file, and what reading JSON needs. */
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_impl.h"

static status_t step_room(const tokenizer_t *t, int have) {
    if (have < TOK_MAX_STEPS) return ST_OK;
    return st_raise(ST_INPUT, t->path, "more than %d components of one kind; use a simpler tokenizer", TOK_MAX_STEPS);
}

static status_t copy_text(const char *s, size_t n, char **out) {
    *out = buf_strndup(s ? s : "", n);
    return *out ? ST_OK : ST_NOMEM;
}

/* One line of `settings`: numbers, then texts with their lengths so that no two settings read the same. */
static status_t record(tokenizer_t *t, const char *what, int a, int b, const char *s, size_t n, const char *s2,
                       size_t n2) {
    TRY(strbuf_addf(&t->settings, "%s %d %d %zu %zu ", what, a, b, n, n2));
    TRY(strbuf_add(&t->settings, s, n));
    TRY(strbuf_add(&t->settings, s2, n2));
    return strbuf_adds(&t->settings, "\n");
}

status_t tok_add_norm(tokenizer_t *t, norm_kind_t kind, const char *from, size_t from_n, const char *to, size_t to_n) {
    TRY(step_room(t, t->norms));
    norm_step_t *s = &t->norm[t->norms++]; /* counted at once: closing frees a half-made step too */
    *s = (norm_step_t){.kind = kind, .from_n = from_n, .to_n = to_n};
    TRY(copy_text(from, from_n, &s->from));
    TRY(copy_text(to, to_n, &s->to));
    return record(t, "norm", (int)kind, 0, s->from, from_n, s->to, to_n);
}

status_t tok_add_byte_level(tokenizer_t *t, bool prefix_space, bool use_regex) {
    TRY(step_room(t, t->pres));
    pre_step_t *s = &t->pre[t->pres++];
    *s = (pre_step_t){.kind = PRE_BYTE_LEVEL, .prefix_space = prefix_space, .behavior = SPLIT_ISOLATED};
    if (use_regex) TRY(tok_regex_compile(TOK_RE_GPT2, strlen(TOK_RE_GPT2), t->path, &s->re));
    return record(t, "byte-level", prefix_space, use_regex, "", 0, "", 0);
}

status_t tok_add_split(tokenizer_t *t, const char *pattern, size_t n, bool is_regex, split_behavior_t b, bool invert) {
    TRY(step_room(t, t->pres));
    if (!n) return st_raise(ST_INPUT, t->path, "pre_tokenizer: Split by an empty pattern; name a pattern");
    pre_step_t *s = &t->pre[t->pres++];
    *s = (pre_step_t){.kind = PRE_SPLIT, .behavior = b, .invert = invert, .literal_n = n};
    if (is_regex)
        TRY(tok_regex_compile(pattern, n, t->path, &s->re));
    else
        TRY(copy_text(pattern, n, &s->literal));
    return record(t, is_regex ? "split" : "split-string", (int)b, invert, pattern, n, "", 0);
}

status_t tok_add_decoder(tokenizer_t *t, dec_step_t step) {
    TRY(step_room(t, t->decs));
    dec_step_t *s = &t->dec[t->decs++];
    *s = step;
    s->from = s->to = NULL;
    TRY(copy_text(step.from, step.from_n, &s->from));
    TRY(copy_text(step.to, step.to_n, &s->to));
    t->has_decoder = true;
    TRY(strbuf_addf(&t->settings, "%lld %lld %d ", (long long)s->start, (long long)s->stop, s->keep_first));
    return record(t, "decoder", (int)s->kind, 0, s->from, s->from_n, s->to, s->to_n);
}

status_t tok_json_string(const tokenizer_t *t, const json_t *node, const char *key, char **s, size_t *n) {
    const json_t *v = json_object_get(node, key);
    if (!json_is_string(v)) return st_raise(ST_INPUT, t->path, "'%s' is missing or not a string", key);
    *s = (char *)(uintptr_t)json_string_value(v);
    *n = json_string_length(v);
    return ST_OK;
}

bool tok_json_bool(const json_t *node, const char *key, bool otherwise) {
    const json_t *v = json_object_get(node, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}
