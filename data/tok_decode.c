/* Decoders: token texts back to text. */
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/tokenizer_impl.h"

/* The tokens of one call: texts laid end to end, with the end of each. */
typedef struct pieces {
    strbuf_t text;
    size_t *end;
    int64_t count, cap;
} pieces_t;

static status_t piece_close(pieces_t *p) {
    TRY(buf_reserve((void **)&p->end, &p->cap, p->count + 1, sizeof *p->end, "token texts"));
    p->end[p->count++] = p->text.len;
    return ST_OK;
}

static status_t piece_add(pieces_t *p, const char *s, size_t n) {
    TRY(strbuf_add(&p->text, s, n));
    return piece_close(p);
}

static void pieces_release(pieces_t *p) {
    strbuf_release(&p->text);
    free(p->end);
}

static const char *piece_at(const pieces_t *p, int64_t i, size_t *n) {
    size_t from = i ? p->end[i - 1] : 0;
    *n = p->end[i] - from;
    return p->text.data ? p->text.data + from : "";
}

#define REPLACEMENT "\xef\xbf\xbd"

/* Length of the longest start of a character at s, which is not a whole one; at least 1. What follows is judged anew:
 * this is how Rust and the Unicode standard count replacement characters. */
static size_t broken_length(const unsigned char *s, size_t n) {
    unsigned char low = 0x80, high = 0xbf;
    size_t want;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        want = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        want = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        want = 4;
    else
        return 1;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    size_t i = 1;
    while (i < n && i < want && s[i] >= low && s[i] <= high) {
        i++;
        low = 0x80;
        high = 0xbf;
    }
    return i;
}

static status_t add_lossy(strbuf_t *out, const char *s, size_t n) {
    while (n) {
        const uint8_t *bad = u8_check((const uint8_t *)s, n);
        size_t good = bad ? (size_t)((const char *)bad - s) : n;
        TRY(strbuf_add(out, s, good));
        if (!bad) break;
        size_t skip = broken_length(bad, n - good);
        TRY(strbuf_adds(out, REPLACEMENT));
        s += good + skip;
        n -= good + skip;
    }
    return ST_OK;
}

/* A token of the alphabet becomes its bytes; any other token is text as it stands. */
static status_t add_bytes(strbuf_t *out, const char *s, size_t n) {
    size_t mark = out->len;
    for (size_t i = 0; i < n;) {
        uint32_t c;
        i += utf8_get(s + i, &c);
        int byte = char_to_byte(c);
        if (byte < 0) {
            out->len = mark;
            return strbuf_add(out, s, n);
        }
        char b = (char)byte;
        TRY(strbuf_add(out, &b, 1));
    }
    return ST_OK;
}

static status_t decode_byte_level(const pieces_t *in, pieces_t *out) {
    strbuf_t bytes = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; i < in->count; i++) {
        size_t n;
        const char *s = piece_at(in, i, &n);
        TRY_GOTO(add_bytes(&bytes, s, n), done);
    }
    TRY_GOTO(add_lossy(&out->text, bytes.data, bytes.len), done);
    st = piece_close(out);
done:
    strbuf_release(&bytes);
    return st;
}

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int byte_token(const char *s, size_t n) {
    if (n != 6 || memcmp(s, "<0x", 3) != 0 || s[5] != '>' || hex(s[4]) < 0) return -1;
    if (s[3] == '+') return hex(s[4]); /* Rust's parser takes a sign */
    return hex(s[3]) < 0 ? -1 : hex(s[3]) * 16 + hex(s[4]);
}

static status_t flush_bytes(strbuf_t *bytes, pieces_t *out) {
    if (!bytes->len) return ST_OK;
    if (!u8_check((const uint8_t *)bytes->data, bytes->len))
        TRY(piece_add(out, bytes->data, bytes->len));
    else
        for (size_t i = 0; i < bytes->len; i++) TRY(piece_add(out, REPLACEMENT, 3));
    strbuf_clear(bytes);
    return ST_OK;
}

static status_t decode_byte_fallback(const pieces_t *in, pieces_t *out) {
    strbuf_t run = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; i < in->count; i++) {
        size_t n;
        const char *s = piece_at(in, i, &n);
        int byte = byte_token(s, n);
        char b = (char)byte;
        if (byte >= 0) {
            TRY_GOTO(strbuf_add(&run, &b, 1), done);
            continue;
        }
        TRY_GOTO(flush_bytes(&run, out), done);
        TRY_GOTO(piece_add(out, s, n), done);
    }
    st = flush_bytes(&run, out);
done:
    strbuf_release(&run);
    return st;
}

static status_t strip_piece(const dec_step_t *d, const char *s, size_t n, pieces_t *out) {
    size_t from = 0, to = n;
    for (int64_t k = 0; k < d->start && n - from >= d->from_n && memcmp(s + from, d->from, d->from_n) == 0; k++)
        from += d->from_n;
    for (int64_t k = 0; k < d->stop && to - from >= d->from_n && memcmp(s + to - d->from_n, d->from, d->from_n) == 0;
         k++)
        to -= d->from_n;
    return piece_add(out, s + from, to - from);
}

static status_t decode_step(const dec_step_t *d, const pieces_t *in, pieces_t *out) {
    if (d->kind == DEC_BYTE_LEVEL) return decode_byte_level(in, out);
    if (d->kind == DEC_BYTE_FALLBACK) return decode_byte_fallback(in, out);
    if (d->kind == DEC_FUSE) return piece_add(out, in->text.data, in->text.len);
    for (int64_t i = 0; i < in->count; i++) {
        size_t n;
        const char *s = piece_at(in, i, &n);
        if (d->kind == DEC_STRIP) {
            TRY(strip_piece(d, s, n, out));
            continue;
        }
        size_t to_n = d->kind == DEC_METASPACE && i == 0 && !d->keep_first ? 0 : d->to_n;
        TRY(text_replace(s, n, d->from, d->from_n, d->to, to_n, &out->text));
        TRY(piece_close(out));
    }
    return ST_OK;
}

static status_t collect(const tokenizer_t *t, const int32_t *ids, int64_t n, bool skip_special, pieces_t *out) {
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] >= t->vocab.ids)
            return st_raise(ST_INPUT, t->path,
                            "token id %d is outside 0...%lld; was the text made with another tokenizer?", ids[i],
                            (long long)t->vocab.ids - 1);
        const tok_entry_t *e = vocab_at(&t->vocab, ids[i]);
        if (!e || (skip_special && e->special)) continue; /* a gap in the ids prints nothing */
        if (!t->has_decoder && out->count) TRY(strbuf_adds(&out->text, " "));
        TRY(piece_add(out, t->vocab.text.data + e->off, e->len));
    }
    return ST_OK;
}

status_t tokenizer_decode(const tokenizer_t *t, const int32_t *ids, int64_t n, bool skip_special, strbuf_t *text) {
    pieces_t now = {0}, next = {0};
    status_t st = collect(t, ids, n, skip_special, &now);
    for (int k = 0; k < t->decs && st == ST_OK; k++) {
        st = decode_step(&t->dec[k], &now, &next);
        pieces_t swap = now;
        now = next;
        next = swap;
        strbuf_clear(&next.text);
        next.count = 0;
    }
    if (st == ST_OK) st = strbuf_add(text, now.text.data, now.text.len);
    pieces_release(&now);
    pieces_release(&next);
    return st;
}
