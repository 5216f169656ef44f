#include "kernels/buf.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { ALIGN = 256, HUGE_PAGE = 1 << 21, MANY_PAGES = 4 * HUGE_PAGE };

status_t buf_reserve(void **data, int64_t *cap, int64_t want, size_t size, const char *what) {
    if (want <= *cap) return ST_OK;
    int64_t grown = *cap < 16 ? 16 : *cap + *cap / 2;
    if (grown < want) grown = want;
    size_t bytes;
    if (__builtin_mul_overflow((size_t)grown, size, &bytes)) return st_nomem(what, SIZE_MAX);
    void *p = realloc(*data, bytes);
    if (!p) return st_nomem(what, bytes);
    *data = p;
    *cap = grown;
    return ST_OK;
}

status_t buf_calloc(void **out, int64_t count, size_t size, const char *what) {
    size_t bytes;
    if (count < 0 || __builtin_mul_overflow((size_t)count, size, &bytes)) return st_nomem(what, SIZE_MAX);
    void *p = calloc(bytes ? bytes : 1, 1);
    if (!p) return st_nomem(what, bytes);
    *out = p;
    return ST_OK;
}

status_t buf_pages(void **out, size_t bytes, const char *what) {
    const size_t align = bytes < MANY_PAGES ? ALIGN : HUGE_PAGE;
    size_t rounded;
    if (__builtin_add_overflow(bytes, align, &rounded)) return st_nomem(what, bytes);
    rounded = rounded / align * align;
    void *p = aligned_alloc(align, rounded);
    if (!p) return st_nomem(what, rounded);
    /* Pages that are given back come again as zeros, without being written twice. */
    if (align == ALIGN || madvise(p, rounded, MADV_DONTNEED) != 0) memset(p, 0, rounded);
    if (align != ALIGN) (void)madvise(p, rounded, MADV_HUGEPAGE); /* as good as the system can */
    *out = p;
    return ST_OK;
}

char *buf_strndup(const char *s, size_t n) {
    char *p = malloc(n + 1);
    if (!p) {
        st_nomem("string", n + 1);
        return NULL;
    }
    memcpy(p, s, n);
    p[n] = 0;
    return p;
}

char *buf_strdup(const char *s) {
    return buf_strndup(s, strlen(s));
}

static status_t strbuf_room(strbuf_t *b, size_t more) {
    int64_t cap = (int64_t)b->cap;
    void *data = b->data;
    TRY(buf_reserve(&data, &cap, (int64_t)(b->len + more + 1), 1, "text buffer"));
    b->data = data;
    b->cap = (size_t)cap;
    return ST_OK;
}

status_t strbuf_add(strbuf_t *b, const void *bytes, size_t n) {
    TRY(strbuf_room(b, n));
    if (n) memcpy(b->data + b->len, bytes, n);
    b->len += n;
    b->data[b->len] = 0;
    return ST_OK;
}

status_t strbuf_adds(strbuf_t *b, const char *s) {
    return strbuf_add(b, s, strlen(s));
}

status_t strbuf_addf(strbuf_t *b, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    if (n < 0) return st_raise(ST_INTERNAL, "strbuf_addf", "cannot format '%s'", fmt);
    TRY(strbuf_room(b, (size_t)n));
    va_start(ap, fmt);
    vsnprintf(b->data + b->len, (size_t)n + 1, fmt, ap);
    va_end(ap);
    b->len += (size_t)n;
    return ST_OK;
}

void strbuf_clear(strbuf_t *b) {
    b->len = 0;
    if (b->data) b->data[0] = 0;
}

void strbuf_release(strbuf_t *b) {
    free(b->data);
    *b = (strbuf_t){0};
}

status_t i32buf_add(i32buf_t *b, const int32_t *items, int64_t n) {
    void *data = b->data;
    TRY(buf_reserve(&data, &b->cap, b->len + n, sizeof *items, "token ids"));
    b->data = data;
    if (n) memcpy(b->data + b->len, items, (size_t)n * sizeof *items);
    b->len += n;
    return ST_OK;
}

status_t i32buf_push(i32buf_t *b, int32_t item) {
    return i32buf_add(b, &item, 1);
}

void i32buf_clear(i32buf_t *b) {
    b->len = 0;
}

void i32buf_release(i32buf_t *b) {
    free(b->data);
    *b = (i32buf_t){0};
}
