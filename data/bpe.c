/* The BPE model: a word to ids in O(n log n), by merge ranks or by SentencePiece scores. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_impl.h"

void bpe_find_bytes(tokenizer_t *t) {
    for (unsigned b = 0; b < 256; b++) {
        char s[8];
        snprintf(s, sizeof s, "<0x%02X>", b);
        t->bpe.byte_id[b] = vocab_model_id(&t->vocab, s, 6);
    }
}

static status_t add_symbol(encode_ctx_t *c, size_t from, size_t len, int32_t id) {
    if (c->symbols >= INT32_MAX - 1)
        return st_raise(ST_INPUT, "text", "a word of over 2^31 characters; split the text");
    TRY(buf_reserve((void **)&c->symbol, &c->symbol_cap, c->symbols + 1, sizeof *c->symbol, "symbols of a word"));
    int32_t i = (int32_t)c->symbols++;
    c->symbol[i] = (bpe_symbol_t){from, len, id, i - 1, i + 1};
    return ST_OK;
}

/* A product of two neighbours: false if they do not merge. */
static bool merge_of(const encode_ctx_t *c, const char *word, int32_t left, bpe_merge_t *out) {
    const tokenizer_t *t = c->t;
    const bpe_symbol_t *a = &c->symbol[left], *b = &c->symbol[a->next];
    out->pos = left;
    if (t->bpe.by_score) {
        const tok_entry_t *e = vocab_find(&t->vocab, word + a->from, a->len + b->len);
        if (!e || e->special) return false; /* text never merges into a control token */
        out->product = e->id;
        out->priority = -(double)t->bpe.score[out->product];
        return true;
    }
    const uint32_t *hit = pairmap_get(&t->bpe.merges, pair_key(a->id, b->id));
    if (!hit) return false;
    out->priority = hit[0];
    out->product = (int32_t)hit[1];
    return true;
}

static bool sooner(bpe_merge_t a, bpe_merge_t b) {
    return a.priority < b.priority || (a.priority == b.priority && a.pos < b.pos);
}

static status_t heap_push(encode_ctx_t *c, bpe_merge_t m) {
    TRY(buf_reserve((void **)&c->heap, &c->heap_cap, c->heap_len + 1, sizeof *c->heap, "merges of a word"));
    int64_t i = c->heap_len++;
    for (; i > 0 && sooner(m, c->heap[(i - 1) / 2]); i = (i - 1) / 2) c->heap[i] = c->heap[(i - 1) / 2];
    c->heap[i] = m;
    return ST_OK;
}

static bpe_merge_t heap_pop(encode_ctx_t *c) {
    bpe_merge_t top = c->heap[0], last = c->heap[--c->heap_len];
    int64_t i = 0;
    for (;;) {
        int64_t child = 2 * i + 1;
        if (child >= c->heap_len) break;
        if (child + 1 < c->heap_len && sooner(c->heap[child + 1], c->heap[child])) child++;
        if (!sooner(c->heap[child], last)) break;
        c->heap[i] = c->heap[child];
        i = child;
    }
    c->heap[i] = last;
    return top;
}

static status_t push_merge(encode_ctx_t *c, const char *word, int32_t left) {
    bpe_merge_t m;
    return merge_of(c, word, left, &m) ? heap_push(c, m) : ST_OK;
}

static status_t merge_all(encode_ctx_t *c, const char *word) {
    c->heap_len = 0;
    for (int32_t i = 0; i + 1 < c->symbols; i++) TRY(push_merge(c, word, i));
    while (c->heap_len) {
        bpe_merge_t top = heap_pop(c), now;
        bpe_symbol_t *a = &c->symbol[top.pos];
        if (!a->len || a->next >= c->symbols) continue;
        /* the neighbours may have changed since this entry was filed; equal products are still right */
        if (!merge_of(c, word, top.pos, &now) || now.product != top.product) continue;
        bpe_symbol_t *b = &c->symbol[a->next];
        a->id = top.product;
        a->len += b->len;
        a->next = b->next;
        b->len = 0;
        if (a->next < c->symbols) c->symbol[a->next].prev = top.pos;
        if (a->prev >= 0) TRY(push_merge(c, word, a->prev));
        if (a->next < c->symbols) TRY(push_merge(c, word, top.pos));
    }
    return ST_OK;
}

static bool has_all_bytes(const bpe_model_t *m, const char *s, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (m->byte_id[(unsigned char)s[i]] < 0) return false;
    return true;
}

static status_t unknown_missing(const tokenizer_t *t) {
    return st_raise(ST_INPUT, t->path, "model.unk_token is not in the vocabulary, and the text needs it");
}

/* The id of one character, with the decorations some models put on inner and last characters. */
static status_t char_id(const encode_ctx_t *c, const char *word, size_t n, size_t from, size_t len, int32_t *id) {
    const bpe_model_t *m = &c->t->bpe;
    if (!m->prefix && !m->suffix) {
        *id = vocab_model_id(&c->t->vocab, word + from, len);
        return ST_OK;
    }
    strbuf_t s = {0};
    status_t st = m->prefix && from > 0 ? strbuf_adds(&s, m->prefix) : ST_OK;
    if (st == ST_OK) st = strbuf_add(&s, word + from, len);
    if (st == ST_OK && m->suffix && from + len == n) st = strbuf_adds(&s, m->suffix);
    if (st == ST_OK) *id = vocab_model_id(&c->t->vocab, s.data, s.len);
    strbuf_release(&s);
    return st;
}

/* Characters to symbols. An unknown one waits (`unk_len` bytes so far) so that the next can be fused with it; it is
 * filed when a known character follows or the word ends, even if byte tokens came between: so does `tokenizers`. */
static status_t split_chars(encode_ctx_t *c, const char *word, size_t n) {
    const bpe_model_t *m = &c->t->bpe;
    size_t unk_from = 0, unk_len = 0;
    for (size_t i = 0, len; i < n; i += len) {
        uint32_t ch;
        int32_t id = -1;
        len = utf8_get(word + i, &ch);
        TRY(char_id(c, word, n, i, len, &id));
        if (id >= 0) {
            if (unk_len) TRY(add_symbol(c, unk_from, unk_len, m->unk));
            unk_len = 0;
            TRY(add_symbol(c, i, len, id));
        } else if (m->byte_fallback && has_all_bytes(m, word + i, len)) {
            for (size_t k = 0; k < len; k++) TRY(add_symbol(c, i + k, 1, m->byte_id[(unsigned char)word[i + k]]));
        } else if (m->has_unk) {
            if (m->unk < 0) return unknown_missing(c->t);
            if (unk_len && !m->fuse_unk) {
                TRY(add_symbol(c, unk_from, unk_len, m->unk));
                unk_len = 0;
            }
            if (!unk_len) unk_from = i;
            unk_len += len;
        }
    }
    return unk_len ? add_symbol(c, unk_from, unk_len, m->unk) : ST_OK;
}

/* SentencePiece merges text, known or not, and looks at what no token covers only afterwards. */
static status_t emit_scored(encode_ctx_t *c, const char *word, const bpe_symbol_t *s) {
    const bpe_model_t *m = &c->t->bpe;
    if (s->id >= 0) return i32buf_push(c->ids, s->id);
    if (!has_all_bytes(m, word + s->from, s->len)) {
        if (m->unk < 0) return unknown_missing(c->t);
        return i32buf_push(c->ids, m->unk);
    }
    for (size_t k = 0; k < s->len; k++) TRY(i32buf_push(c->ids, m->byte_id[(unsigned char)word[s->from + k]]));
    return ST_OK;
}

status_t bpe_encode_word(encode_ctx_t *c, const char *word, size_t n) {
    const bpe_model_t *m = &c->t->bpe;
    if (m->ignore_merges) {
        int32_t id = vocab_model_id(&c->t->vocab, word, n);
        if (id >= 0) return i32buf_push(c->ids, id);
    }
    c->symbols = 0;
    if (m->by_score) {
        for (size_t i = 0, len; i < n; i += len) {
            uint32_t ch;
            len = utf8_get(word + i, &ch);
            TRY(add_symbol(c, i, len, vocab_model_id(&c->t->vocab, word + i, len)));
        }
    } else {
        TRY(split_chars(c, word, n));
    }
    TRY(merge_all(c, word));
    for (int64_t i = 0; i < c->symbols; i++) {
        const bpe_symbol_t *s = &c->symbol[i];
        if (!s->len) continue;
        if (m->by_score)
            TRY(emit_scored(c, word, s));
        else
            TRY(i32buf_push(c->ids, s->id));
    }
    return ST_OK;
}
