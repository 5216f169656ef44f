/* Growing byte and item buffers, for set-up code (never inside a training step). A zeroed struct is a valid empty
 * buffer; release frees the contents and leaves it empty. All functions are *local*. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

/* Bytes with a terminating NUL that is not counted, so `data` is a C string when it holds no NUL inside. */
typedef struct strbuf {
    char *data;
    size_t len, cap;
} strbuf_t;

status_t strbuf_add(strbuf_t *b, const void *bytes, size_t n);
status_t strbuf_adds(strbuf_t *b, const char *s);
status_t strbuf_addf(strbuf_t *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void strbuf_clear(strbuf_t *b); /* keeps the memory */
void strbuf_release(strbuf_t *b);

/* int32 items: token ids. */
typedef struct i32buf {
    int32_t *data;
    int64_t len, cap;
} i32buf_t;

status_t i32buf_add(i32buf_t *b, const int32_t *items, int64_t n);
status_t i32buf_push(i32buf_t *b, int32_t item);
void i32buf_clear(i32buf_t *b);
void i32buf_release(i32buf_t *b);

/* Makes room for `want` items of `size` bytes in the array *data of capacity *cap (doubling); raises ST_NOMEM. */
status_t buf_reserve(void **data, int64_t *cap, int64_t want, size_t size, const char *what);

/* calloc that raises ST_NOMEM and checks the product for overflow. */
status_t buf_calloc(void **out, int64_t count, size_t size, const char *what);

/* Zeroed memory for arrays of numbers, 256-byte aligned; free() releases it. That of many pages takes memory and time
 * only where and when it is touched, and has huge pages where the system gives them. ST_NOMEM, with `what`. */
status_t buf_pages(void **out, size_t bytes, const char *what);

/* A copy of `s` (of its first n bytes), or NULL with ST_NOMEM raised. */
char *buf_strdup(const char *s);
char *buf_strndup(const char *s, size_t n);
