/* tokenizer.json: normalizers, pre-tokenizers and decoders. */
#include <string.h>
#include "data/tokenizer_impl.h"

typedef status_t (*parse_t)(tokenizer_t *t, const json_t *node, int depth);

static status_t parse_all(tokenizer_t *t, const json_t *list, const char *what, parse_t parse, int depth) {
    if (!json_is_array(list)) return st_raise(ST_INPUT, t->path, "%s: a Sequence without its list", what);
    if (depth > 8) return st_raise(ST_INPUT, t->path, "%s: Sequences nested too deep", what);
    for (size_t i = 0; i < json_array_size(list); i++) TRY(parse(t, json_array_get(list, i), depth + 1));
    return ST_OK;
}

static status_t type_of(const tokenizer_t *t, const json_t *node, const char *what, const char **type) {
    *type = json_string_value(json_object_get(node, "type"));
    return *type ? ST_OK : st_raise(ST_INPUT, t->path, "%s: an object without 'type'", what);
}

static status_t unsupported(const tokenizer_t *t, const char *what, const char *type) {
    return st_raise(ST_INPUT, t->path,
                    "%s '%s' is not supported; use a model with a byte-level or byte-fallback BPE tokenizer", what,
                    type);
}

status_t tok_parse_norm(tokenizer_t *t, const json_t *node, int depth) {
    const char *type;
    char *s, *with;
    size_t n, with_n;
    if (!node || json_is_null(node)) return ST_OK;
    TRY(type_of(t, node, "normalizer", &type));
    if (!strcmp(type, "Sequence"))
        return parse_all(t, json_object_get(node, "normalizers"), "normalizer", tok_parse_norm, depth);
    if (!strcmp(type, "NFC")) return tok_add_norm(t, NORM_NFC, "", 0, "", 0);
    if (!strcmp(type, "Prepend")) {
        TRY(tok_json_string(t, node, "prepend", &s, &n));
        return tok_add_norm(t, NORM_PREPEND, "", 0, s, n);
    }
    if (strcmp(type, "Replace") != 0) return unsupported(t, "normalizer", type);
    const json_t *pattern = json_object_get(node, "pattern");
    if (!json_object_get(pattern, "String")) return unsupported(t, "normalizer", "Replace with a Regex");
    TRY(tok_json_string(t, pattern, "String", &s, &n));
    TRY(tok_json_string(t, node, "content", &with, &with_n));
    if (!n) return unsupported(t, "normalizer", "Replace of an empty String");
    return tok_add_norm(t, NORM_REPLACE, s, n, with, with_n);
}

static const char *const BEHAVIORS[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};

static status_t parse_split(tokenizer_t *t, const json_t *node) {
    const json_t *pattern = json_object_get(node, "pattern");
    bool is_regex = json_object_get(pattern, "Regex") != NULL;
    char *s, *behavior;
    size_t n, behavior_n;
    TRY(tok_json_string(t, pattern, is_regex ? "Regex" : "String", &s, &n));
    TRY(tok_json_string(t, node, "behavior", &behavior, &behavior_n));
    for (int b = 0; b < 5; b++)
        if (!strcmp(behavior, BEHAVIORS[b]))
            return tok_add_split(t, s, n, is_regex, (split_behavior_t)b, tok_json_bool(node, "invert", false));
    return unsupported(t, "pre_tokenizer Split behavior", behavior);
}

static status_t parse_scheme(const tokenizer_t *t, const json_t *node, prepend_t *out) {
    const char *scheme = json_string_value(json_object_get(node, "prepend_scheme"));
    *out = PREPEND_ALWAYS;
    if (!scheme) {
        if (!tok_json_bool(node, "add_prefix_space", true)) *out = PREPEND_NEVER; /* the older way to say it */
    } else if (!strcmp(scheme, "first")) {
        *out = PREPEND_FIRST;
    } else if (!strcmp(scheme, "never")) {
        *out = PREPEND_NEVER;
    } else if (strcmp(scheme, "always") != 0) {
        return unsupported(t, "Metaspace prepend_scheme", scheme);
    }
    return ST_OK;
}

static status_t parse_metaspace(tokenizer_t *t, const json_t *node) {
    char *s;
    size_t n;
    prepend_t prepend;
    TRY(tok_json_string(t, node, "replacement", &s, &n));
    TRY(parse_scheme(t, node, &prepend));
    TRY(tok_add_split(t, s, n, false, SPLIT_NEXT, false));
    pre_step_t *p = &t->pre[t->pres - 1];
    p->kind = PRE_METASPACE;
    p->prepend = prepend;
    p->split = tok_json_bool(node, "split", true);
    return strbuf_addf(&t->settings, "metaspace %d %d\n", (int)p->prepend, p->split);
}

status_t tok_parse_pre(tokenizer_t *t, const json_t *node, int depth) {
    const char *type;
    if (!node || json_is_null(node)) return ST_OK;
    TRY(type_of(t, node, "pre_tokenizer", &type));
    if (!strcmp(type, "Sequence"))
        return parse_all(t, json_object_get(node, "pretokenizers"), "pre_tokenizer", tok_parse_pre, depth);
    if (!strcmp(type, "ByteLevel"))
        return tok_add_byte_level(t, tok_json_bool(node, "add_prefix_space", true),
                                  tok_json_bool(node, "use_regex", true));
    if (!strcmp(type, "Split")) return parse_split(t, node);
    if (!strcmp(type, "Digits"))
        return tok_add_split(t, TOK_RE_DIGIT, strlen(TOK_RE_DIGIT), true,
                             tok_json_bool(node, "individual_digits", false) ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS,
                             false);
    if (!strcmp(type, "Metaspace")) return parse_metaspace(t, node);
    return unsupported(t, "pre_tokenizer", type);
}

static status_t parse_count(const tokenizer_t *t, const json_t *node, const char *key, int64_t *out) {
    const json_t *v = json_object_get(node, key);
    if (!json_is_integer(v) || json_integer_value(v) < 0)
        return st_raise(ST_INPUT, t->path, "decoder Strip: '%s' is missing or not a count", key);
    *out = json_integer_value(v);
    return ST_OK;
}

static status_t parse_text_decoder(tokenizer_t *t, const json_t *node, const char *type) {
    dec_step_t d = {.kind = DEC_REPLACE};
    if (!strcmp(type, "Replace")) {
        const json_t *pattern = json_object_get(node, "pattern");
        if (!json_object_get(pattern, "String")) return unsupported(t, "decoder", "Replace with a Regex");
        TRY(tok_json_string(t, pattern, "String", &d.from, &d.from_n));
        TRY(tok_json_string(t, node, "content", &d.to, &d.to_n));
    } else if (!strcmp(type, "Strip")) {
        d.kind = DEC_STRIP;
        TRY(tok_json_string(t, node, "content", &d.from, &d.from_n));
        TRY(parse_count(t, node, "start", &d.start));
        TRY(parse_count(t, node, "stop", &d.stop));
    } else if (!strcmp(type, "Metaspace")) {
        prepend_t prepend;
        char space[] = " ";
        d.kind = DEC_METASPACE;
        TRY(tok_json_string(t, node, "replacement", &d.from, &d.from_n));
        TRY(parse_scheme(t, node, &prepend));
        d.to = space;
        d.to_n = 1;
        d.keep_first = prepend == PREPEND_NEVER;
        if (!d.from_n) return unsupported(t, "decoder", "Metaspace without replacement");
        return tok_add_decoder(t, d);
    } else {
        return unsupported(t, "decoder", type);
    }
    if (!d.from_n) return unsupported(t, "decoder", "Replace or Strip of an empty String");
    return tok_add_decoder(t, d);
}

status_t tok_parse_decoder(tokenizer_t *t, const json_t *node, int depth) {
    const char *type;
    if (!node || json_is_null(node)) return ST_OK;
    TRY(type_of(t, node, "decoder", &type));
    t->has_decoder = true;
    if (!strcmp(type, "Sequence"))
        return parse_all(t, json_object_get(node, "decoders"), "decoder", tok_parse_decoder, depth);
    if (!strcmp(type, "ByteLevel")) return tok_add_decoder(t, (dec_step_t){.kind = DEC_BYTE_LEVEL});
    if (!strcmp(type, "ByteFallback")) return tok_add_decoder(t, (dec_step_t){.kind = DEC_BYTE_FALLBACK});
    if (!strcmp(type, "Fuse")) return tok_add_decoder(t, (dec_step_t){.kind = DEC_FUSE});
    return parse_text_decoder(t, node, type);
}
