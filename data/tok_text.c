/* UTF-8, character classes, the byte-level alphabet and the normalizers. */
#include <stdlib.h>
#include <string.h>
#include <uninorm.h>
#include "data/tokenizer_impl.h"

size_t utf8_put(uint32_t c, char out[4]) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, c >>= 6) out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n & 0xff) | c);
    return n;
}

size_t utf8_get(const char *s, uint32_t *c) {
    const unsigned char *u = (const unsigned char *)s;
    if (u[0] < 0x80) {
        *c = u[0];
        return 1;
    }
    size_t n = u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    uint32_t v = u[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) v = v << 6 | (u[i] & 0x3f);
    *c = v;
    return n;
}

size_t utf8_back(const char *s, size_t at, uint32_t *c) {
    size_t p = at - 1;
    while (p > 0 && ((unsigned char)s[p] & 0xc0) == 0x80) p--;
    return utf8_get(s + p, c);
}

/* Bytes that print stand for themselves; the other 68, in order, are U+0100 and up. */
static bool byte_prints(unsigned b) {
    return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
}

uint32_t byte_to_char(unsigned byte) {
    if (byte_prints(byte)) return byte;
    if (byte <= 32) return 256 + byte;
    return byte == 173 ? 323 : 256 + 33 + (byte - 127);
}

int char_to_byte(uint32_t c) {
    if (c < 256) return byte_prints(c) ? (int)c : -1;
    if (c <= 288) return (int)c - 256;
    if (c < 323) return (int)c - 289 + 127;
    return c == 323 ? 173 : -1;
}

status_t text_replace(const char *text, size_t n, const char *from, size_t from_n, const char *to, size_t to_n,
                      strbuf_t *out) {
    while (n) {
        const char *hit = memmem(text, n, from, from_n);
        size_t before = hit ? (size_t)(hit - text) : n;
        TRY(strbuf_add(out, text, before));
        if (!hit) break;
        TRY(strbuf_add(out, to, to_n));
        text += before + from_n;
        n -= before + from_n;
    }
    return ST_OK;
}

static status_t add_nfc(const char *text, size_t n, strbuf_t *out) {
    if (!n) return ST_OK;
    size_t got = 0;
    uint8_t *s = u8_normalize(UNINORM_NFC, (const uint8_t *)text, n, NULL, &got);
    if (!s) return st_nomem("normalised text", n);
    status_t st = strbuf_add(out, s, got);
    free(s);
    return st;
}

static status_t normalize_nfc(const char *text, size_t n, strbuf_t *out) {
    size_t i = 0, done = 0;
    while (i < n && (unsigned char)text[i] < 0xcc) i++; /* nothing below U+0300 composes with what precedes it */
    if (i == n) return strbuf_add(out, text, n);
    for (size_t len; i < n; i += len) {
        uint32_t c;
        len = utf8_get(text + i, &c);
        if (c < 0x7fd || !char_is_nfc_barrier(c)) continue;
        TRY(add_nfc(text + done, i - done, out));
        TRY(strbuf_add(out, text + i, len));
        done = i + len;
    }
    return add_nfc(text + done, n - done, out);
}

static status_t normalize_step(const norm_step_t *s, const char *text, size_t n, strbuf_t *out) {
    if (s->kind == NORM_NFC) return normalize_nfc(text, n, out);
    if (s->kind == NORM_REPLACE) return text_replace(text, n, s->from, s->from_n, s->to, s->to_n, out);
    if (n) TRY(strbuf_add(out, s->to, s->to_n));
    return strbuf_add(out, text, n);
}

status_t tok_normalize(const tokenizer_t *t, const char *text, size_t n, strbuf_t *out) {
    strbuf_t a = {0}, b = {0};
    status_t st = ST_OK;
    for (int i = 0; i < t->norms; i++) {
        TRY_GOTO(normalize_step(&t->norm[i], text, n, &b), done);
        strbuf_t swap = a;
        a = b;
        b = swap;
        strbuf_clear(&b);
        text = a.data;
        n = a.len;
    }
    st = n ? strbuf_add(out, text, n) : ST_OK;
done:
    strbuf_release(&a);
    strbuf_release(&b);
    return st;
}
