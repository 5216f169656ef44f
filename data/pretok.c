/* Pre-tokenizers: cut a piece of text into the words that the model sees. */
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_impl.h"

enum { JIT_STACK_START = 32 * 1024, JIT_STACK_MAX = 16 * 1024 * 1024 };

static status_t matcher_init(encode_ctx_t *c) {
    c->match = pcre2_match_data_create(1, NULL);
    c->limits = pcre2_match_context_create(NULL);
    if (!c->match || !c->limits) return st_nomem("pattern matcher", 0);
    pcre2_set_match_limit(c->limits, UINT32_MAX); /* a long run of spaces is legal text */
    pcre2_set_heap_limit(c->limits, UINT32_MAX);
    pcre2_set_depth_limit(c->limits, UINT32_MAX);
    c->stack = pcre2_jit_stack_create(JIT_STACK_START, JIT_STACK_MAX, NULL);
    if (c->stack) pcre2_jit_stack_assign(c->limits, NULL, c->stack);
    return ST_OK;
}

/* The next match at or after `at`; *found false when there is none. */
static status_t next_match(encode_ctx_t *c, const pre_step_t *p, const char *text, size_t n, size_t at, bool *found,
                           size_t *from, size_t *to) {
    if (!p->re) {
        const char *hit = memmem(text + at, n - at, p->literal, p->literal_n);
        *found = hit != NULL;
        if (hit) *from = (size_t)(hit - text), *to = *from + p->literal_n;
        return ST_OK;
    }
    if (!c->match) TRY(matcher_init(c));
    int rc = pcre2_match(p->re, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK, c->match, c->limits);
    if (rc == PCRE2_ERROR_JIT_STACKLIMIT)
        rc = pcre2_match(p->re, (PCRE2_SPTR)text, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, c->match, c->limits);
    *found = rc >= 0;
    if (rc == PCRE2_ERROR_NOMATCH) return ST_OK;
    if (rc == PCRE2_ERROR_NOMEMORY) return st_nomem("pattern matcher", 0);
    if (rc < 0)
        return st_raise(ST_INPUT, "text", "the tokenizer's pattern gives up at byte %zu (PCRE2 error %d)", at, rc);
    const PCRE2_SIZE *span = pcre2_get_ovector_pointer(c->match);
    *from = span[0];
    *to = span[1] < span[0] ? span[0] : span[1];
    return ST_OK;
}

/* Matches and gaps, in order. An empty match right behind a match does not count. */
static status_t find_spans(encode_ctx_t *c, const pre_step_t *p, const char *text, size_t n, spanbuf_t *out) {
    size_t done = 0, at = 0, last = SIZE_MAX, from = 0, to = 0;
    out->len = 0;
    while (at <= n) {
        bool found;
        TRY(next_match(c, p, text, n, at, &found, &from, &to));
        if (!found) break;
        if (from == to && to == last) {
            uint32_t ch;
            if (at >= n) break;
            at += utf8_get(text + at, &ch);
            continue;
        }
        if (done < from) TRY(spanbuf_push(out, done, from, -1, p->invert));
        TRY(spanbuf_push(out, from, to, -1, !p->invert));
        done = at = last = to;
    }
    return done < n ? spanbuf_push(out, done, n, -1, p->invert) : ST_OK;
}

/* Joins matches to their neighbours as the behaviour says, in place. */
static void join_spans(split_behavior_t b, spanbuf_t *s) {
    bool previous = false;
    int64_t kept = 0;
    if (b == SPLIT_REMOVED) {
        for (int64_t i = 0; i < s->len; i++)
            if (!s->data[i].match) s->data[kept++] = s->data[i];
        s->len = kept;
    } else if (b == SPLIT_PREVIOUS || b == SPLIT_CONTIGUOUS) {
        for (int64_t i = 0; i < s->len; i++) {
            span_t x = s->data[i];
            bool join = b == SPLIT_CONTIGUOUS ? x.match == previous : x.match && !previous;
            if (join && kept)
                s->data[kept - 1].to = x.to;
            else
                s->data[kept++] = x;
            previous = x.match;
        }
        s->len = kept;
    } else if (b == SPLIT_NEXT) {
        kept = s->len;
        for (int64_t i = s->len - 1; i >= 0; i--) {
            span_t x = s->data[i];
            if (x.match && !previous && kept < s->len)
                s->data[kept].from = x.from;
            else
                s->data[--kept] = x;
            previous = x.match;
        }
        s->len -= kept;
        memmove(s->data, s->data + kept, (size_t)s->len * sizeof *s->data);
    }
}

static status_t map_bytes(encode_ctx_t *c, int k, const char *text, size_t n, bool first) {
    strbuf_t *out = &c->scratch[k][1];
    strbuf_clear(out);
    for (size_t i = 0; i < n; i++) {
        char s[4];
        TRY(strbuf_add(out, s, utf8_put(byte_to_char((unsigned char)text[i]), s)));
    }
    return pretok_run(c, k + 1, out->data, out->len, first);
}

static status_t metaspace(encode_ctx_t *c, int k, const char **text, size_t *n, bool first) {
    const pre_step_t *p = &c->t->pre[k];
    strbuf_t *out = &c->scratch[k][0];
    strbuf_clear(out);
    bool starts = (*n >= p->literal_n && memcmp(*text, p->literal, p->literal_n) == 0) || **text == ' ';
    if (!starts && (p->prepend == PREPEND_ALWAYS || (p->prepend == PREPEND_FIRST && first)))
        TRY(strbuf_add(out, p->literal, p->literal_n));
    TRY(text_replace(*text, *n, " ", 1, p->literal, p->literal_n, out));
    *text = out->data;
    *n = out->len;
    return ST_OK;
}

status_t pretok_run(encode_ctx_t *c, int k, const char *text, size_t n, bool first) {
    if (!n) return ST_OK;
    if (k == c->t->pres) return bpe_encode_word(c, text, n);
    const pre_step_t *p = &c->t->pre[k];
    bool whole = false;
    if (p->kind == PRE_METASPACE) {
        TRY(metaspace(c, k, &text, &n, first));
        whole = !p->split;
    } else if (p->kind == PRE_BYTE_LEVEL) {
        if (p->prefix_space && *text != ' ') {
            strbuf_clear(&c->scratch[k][0]);
            TRY(strbuf_adds(&c->scratch[k][0], " "));
            TRY(strbuf_add(&c->scratch[k][0], text, n));
            text = c->scratch[k][0].data;
            n = c->scratch[k][0].len;
        }
        whole = !p->re;
    }
    spanbuf_t *s = &c->spans[k];
    if (whole) {
        s->len = 0;
        TRY(spanbuf_push(s, 0, n, -1, false));
    } else {
        TRY(find_spans(c, p, text, n, s));
        join_spans(p->behavior, s);
    }
    for (int64_t i = 0; i < s->len; i++) {
        const char *piece = text + s->data[i].from;
        size_t len = s->data[i].to - s->data[i].from;
        bool head = first && s->data[i].from == 0;
        if (p->kind == PRE_BYTE_LEVEL)
            TRY(map_bytes(c, k, piece, len, head));
        else
            TRY(pretok_run(c, k + 1, piece, len, head));
    }
    return ST_OK;
}
