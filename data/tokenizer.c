#include "data/tokenizer.h"
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include <xxhash.h>
#include "data/tokenizer_impl.h"

status_t tokenizer_alloc(const char *path, tokenizer_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(tokenizer_t), "tokenizer"));
    tokenizer_t *t = p;
    t->added_max = t->eos = t->bpe.unk = -1;
    t->path = buf_strdup(path);
    if (!t->path) {
        tokenizer_close(t);
        return ST_NOMEM;
    }
    *out = t;
    return ST_OK;
}

void tokenizer_close(tokenizer_t *t) {
    if (!t) return;
    for (int i = 0; i < t->norms; i++) {
        free(t->norm[i].from);
        free(t->norm[i].to);
    }
    for (int i = 0; i < t->pres; i++) {
        pcre2_code_free(t->pre[i].re);
        free(t->pre[i].literal);
    }
    for (int i = 0; i < t->decs; i++) {
        free(t->dec[i].from);
        free(t->dec[i].to);
    }
    vocab_release(&t->vocab);
    pairmap_release(&t->bpe.merges);
    free(t->bpe.score);
    free(t->bpe.prefix);
    free(t->bpe.suffix);
    free(t->added);
    added_set_release(&t->raw);
    added_set_release(&t->normalized);
    i32buf_release(&t->front);
    i32buf_release(&t->back);
    strbuf_release(&t->settings);
    free(t->path);
    free(t);
}

static void ctx_release(encode_ctx_t *c) {
    strbuf_release(&c->norm);
    for (int i = 0; i < c->t->pres; i++) {
        strbuf_release(&c->scratch[i][0]);
        strbuf_release(&c->scratch[i][1]);
        free(c->spans[i].data);
    }
    free(c->raw.data);
    free(c->inner.data);
    pcre2_match_data_free(c->match);
    pcre2_match_context_free(c->limits);
    pcre2_jit_stack_free(c->stack);
    free(c->symbol);
    free(c->heap);
}

/* A piece between raw added tokens: normalise, split at the normalised added tokens, encode the rest. */
static status_t encode_piece(encode_ctx_t *c, const char *text, size_t n, bool first) {
    const tokenizer_t *t = c->t;
    if (t->norms) {
        strbuf_clear(&c->norm);
        TRY(tok_normalize(t, text, n, &c->norm));
        text = c->norm.data;
        n = c->norm.len;
    }
    TRY(added_split(t, &t->normalized, text, n, &c->inner));
    for (int64_t i = 0; i < c->inner.len; i++) {
        span_t s = c->inner.data[i];
        if (s.token >= 0)
            TRY(i32buf_push(c->ids, t->added[s.token].id));
        else
            TRY(pretok_run(c, 0, text + s.from, s.to - s.from, first && s.from == 0));
    }
    return ST_OK;
}

static status_t encode_text(encode_ctx_t *c, const char *text, size_t n, bool add_special) {
    const tokenizer_t *t = c->t;
    if (add_special) TRY(i32buf_add(c->ids, t->front.data, t->front.len));
    TRY(added_split(t, &t->raw, text, n, &c->raw));
    for (int64_t i = 0; i < c->raw.len; i++) {
        span_t s = c->raw.data[i];
        if (s.token >= 0)
            TRY(i32buf_push(c->ids, t->added[s.token].id));
        else
            TRY(encode_piece(c, text + s.from, s.to - s.from, s.from == 0));
    }
    return add_special ? i32buf_add(c->ids, t->back.data, t->back.len) : ST_OK;
}

status_t tokenizer_encode(const tokenizer_t *t, const char *text, size_t n, bool add_special, i32buf_t *ids) {
    const uint8_t *bad = n ? u8_check((const uint8_t *)text, n) : NULL;
    if (bad)
        return st_raise(ST_INPUT, "text", "invalid UTF-8 at byte %zu; convert the text to UTF-8",
                        (size_t)(bad - (const uint8_t *)text));
    int64_t mark = ids->len;
    encode_ctx_t c = {.t = t, .ids = ids};
    status_t st = encode_text(&c, text, n, add_special);
    if (st != ST_OK) ids->len = mark;
    ctx_release(&c);
    return st;
}

int32_t tokenizer_vocab_size(const tokenizer_t *t) {
    return (int32_t)t->vocab.ids;
}

int32_t tokenizer_eos(const tokenizer_t *t) {
    return t->eos;
}

const int32_t *tokenizer_prefix(const tokenizer_t *t, int *n) {
    *n = (int)t->front.len;
    return t->front.data;
}

int32_t tokenizer_token_id(const tokenizer_t *t, const char *s) {
    const tok_entry_t *e = vocab_find(&t->vocab, s, strlen(s));
    return e ? e->id : -1;
}

uint64_t tokenizer_fingerprint(const tokenizer_t *t) {
    return t->fingerprint;
}

uint64_t tokenizer_opened_fingerprint(const tokenizer_t *t) {
    return t->opened_fingerprint;
}

void tokenizer_seal(tokenizer_t *t) {
    uint64_t h = XXH64(t->settings.data ? t->settings.data : "", t->settings.len, 0);
    for (int64_t id = 0; id < t->vocab.ids; id++) {
        const tok_entry_t *e = vocab_at(&t->vocab, id);
        if (!e) continue;
        int64_t key[4] = {id, (int64_t)e->len, e->special, e->in_model};
        h = XXH64(key, sizeof key, h);
        h = XXH64(t->vocab.text.data + e->off, e->len, h);
        if (t->bpe.by_score && id < t->bpe.scores) h = XXH64(&t->bpe.score[id], sizeof(float), h);
    }
    for (int64_t i = 0; i < t->added_count; i++) {
        const added_token_t *a = &t->added[i];
        int32_t key[6] = {a->id, a->single_word, a->lstrip, a->rstrip, a->normalized, a->special};
        h = XXH64(key, sizeof key, h);
    }
    uint64_t sum = 0; /* the table has no order of its own, so the hash must not see one */
    for (uint64_t i = 0; t->bpe.merges.mask && i <= t->bpe.merges.mask; i++) {
        if (t->bpe.merges.key[i] == UINT64_MAX) continue;
        sum += XXH64(t->bpe.merges.val[i], sizeof t->bpe.merges.val[i], t->bpe.merges.key[i]);
    }
    h = XXH64(&sum, sizeof sum, h);
    int32_t ends[2] = {(int32_t)t->front.len, (int32_t)t->back.len};
    h = XXH64(ends, sizeof ends, h);
    if (ends[0]) h = XXH64(t->front.data, (size_t)ends[0] * sizeof(int32_t), h);
    if (ends[1]) h = XXH64(t->back.data, (size_t)ends[1] * sizeof(int32_t), h);
    t->fingerprint = h;
    if (!t->opened_fingerprint) t->opened_fingerprint = h; /* it is sealed again when tokens are added */
}
