/* Added tokens: how they get their ids and how a text is split at them. */
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/tokenizer_impl.h"

status_t spanbuf_push(spanbuf_t *b, size_t from, size_t to, int32_t token, bool match) {
    TRY(buf_reserve((void **)&b->data, &b->cap, b->len + 1, sizeof *b->data, "text pieces"));
    b->data[b->len++] = (span_t){from, to, token, match};
    return ST_OK;
}

static status_t trie_node(added_set_t *s) {
    TRY(buf_reserve((void **)&s->token, &s->cap, s->nodes + 1, sizeof *s->token, "added tokens"));
    s->token[s->nodes++] = -1;
    return ST_OK;
}

status_t added_set_insert(added_set_t *s, const char *pattern, size_t n, int32_t token) {
    if (!s->nodes) TRY(trie_node(s));
    int32_t node = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t key = pair_key(node, (unsigned char)pattern[i]);
        const uint32_t *next = pairmap_get(&s->child, key);
        if (next) {
            node = (int32_t)next[0];
            continue;
        }
        node = (int32_t)s->nodes;
        TRY(trie_node(s));
        TRY(pairmap_set(&s->child, key, (uint32_t)node, 0));
    }
    if (node && s->token[node] < 0) s->token[node] = token; /* of equal patterns the first one wins */
    return ST_OK;
}

void added_set_release(added_set_t *s) {
    pairmap_release(&s->child);
    free(s->token);
    *s = (added_set_t){0};
}

status_t added_insert(tokenizer_t *t, const char *s, size_t n, added_token_t flags) {
    tok_vocab_t *v = &t->vocab;
    const tok_entry_t *e = vocab_find(v, s, n);
    if (!n) return ST_OK;
    if (e) { /* a model token, or the same added token again */
        for (int64_t i = 0; i < t->added_count; i++)
            if (t->added[i].id == e->id && vocab_at(v, e->id) == e) return ST_OK;
        flags.id = e->id;
        v->entry[e - v->entry].special = flags.special;
        v->by_id[e->id] = (int32_t)(e - v->entry);
    } else {
        int64_t id = v->model_count;
        if (t->added_max >= id || !id) id = (int64_t)t->added_max + 1;
        if (id >= TOK_MAX_ID) return st_raise(ST_INPUT, t->path, "added_tokens: more ids than %d", TOK_MAX_ID);
        flags.id = (int32_t)id;
        TRY(vocab_add(v, s, n, flags.id, false, flags.special));
    }
    if (flags.id > t->added_max) t->added_max = flags.id;
    TRY(buf_reserve((void **)&t->added, &t->added_cap, t->added_count + 1, sizeof *t->added, "added tokens"));
    t->added[t->added_count++] = flags;
    return ST_OK;
}

status_t added_finish(tokenizer_t *t) {
    strbuf_t pattern = {0};
    status_t st = ST_OK;
    for (int special = 1; special >= 0; special--) { /* among equal patterns special tokens come first */
        for (int64_t i = 0; i < t->added_count && st == ST_OK; i++) {
            const added_token_t *a = &t->added[i];
            const tok_entry_t *e = vocab_at(&t->vocab, a->id);
            if (a->special != (special == 1) || !e) continue;
            const char *text = t->vocab.text.data + e->off;
            if (!a->normalized) {
                st = added_set_insert(&t->raw, text, e->len, (int32_t)i);
                continue;
            }
            strbuf_clear(&pattern);
            st = tok_normalize(t, text, e->len, &pattern);
            if (st == ST_OK) st = added_set_insert(&t->normalized, pattern.data, pattern.len, (int32_t)i);
        }
    }
    strbuf_release(&pattern);
    return st;
}

status_t tokenizer_add_special(tokenizer_t *t, const char *const *text, int n) {
    for (int i = 0; i < n; i++) {
        size_t len = strlen(text[i]);
        int64_t count = t->added_count;
        int32_t next = tokenizer_vocab_size(t);
        if (!len || u8_check((const uint8_t *)text[i], len))
            return st_raise(ST_USAGE, "special_tokens", "token %d is empty or not UTF-8", i + 1);
        bool known = vocab_find(&t->vocab, text[i], len) != NULL;
        TRY(added_insert(t, text[i], len, (added_token_t){.special = true}));
        if (t->added_count == count) continue;
        if (!known && t->added[count].id != next)
            return st_raise(ST_INPUT, t->path, "the ids have gaps: the next free one is %d, the highest is %d",
                            (int)t->added[count].id, (int)next - 1);
        TRY(added_set_insert(&t->raw, text[i], len, (int32_t)count));
    }
    tokenizer_seal(t);
    return ST_OK;
}

/* The longest pattern that starts at s; its token, or -1. */
static int32_t longest_match(const added_set_t *set, const char *s, size_t n, size_t *len) {
    int32_t node = 0, found = -1;
    for (size_t i = 0; i < n; i++) {
        const uint32_t *next = pairmap_get(&set->child, pair_key(node, (unsigned char)s[i]));
        if (!next) break;
        node = (int32_t)next[0];
        if (set->token[node] >= 0) {
            found = set->token[node];
            *len = i + 1;
        }
    }
    return found;
}

static bool stands_alone(const char *text, size_t n, size_t from, size_t to) {
    uint32_t c;
    if (from > 0) {
        utf8_back(text, from, &c);
        if (char_is_word(c)) return false;
    }
    if (to < n) {
        utf8_get(text + to, &c);
        if (char_is_word(c)) return false;
    }
    return true;
}

static size_t spaces_before(const char *text, size_t at) {
    uint32_t c;
    while (at > 0) {
        size_t len = utf8_back(text, at, &c);
        if (!char_is_space(c)) break;
        at -= len;
    }
    return at;
}

static size_t spaces_after(const char *text, size_t n, size_t at) {
    uint32_t c;
    while (at < n) {
        size_t len = utf8_get(text + at, &c);
        if (!char_is_space(c)) break;
        at += len;
    }
    return at;
}

status_t added_split(const tokenizer_t *t, const added_set_t *set, const char *text, size_t n, spanbuf_t *out) {
    out->len = 0;
    size_t done = 0; /* everything before is in `out` */
    for (size_t i = 0; set->nodes && i < n;) {
        size_t len = 1;
        int32_t token = longest_match(set, text + i, n - i, &len);
        size_t from = i, to = i + len;
        i = to; /* the search goes on behind the match, whatever white space the token swallows */
        if (token < 0) continue;
        const added_token_t *a = &t->added[token];
        if (a->single_word && !stands_alone(text, n, from, to)) continue;
        if (a->lstrip) {
            from = spaces_before(text, from);
            if (from < done) from = done;
        }
        if (a->rstrip) to = spaces_after(text, n, to);
        if (done < from) TRY(spanbuf_push(out, done, from, -1, false));
        TRY(spanbuf_push(out, from, to, token, false));
        done = to;
    }
    return done < n ? spanbuf_push(out, done, n, -1, false) : ST_OK;
}
