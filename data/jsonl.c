#include "data/jsonl.h"
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK_BYTES = 1 << 20 };

/* Reads up to n bytes at `at`; fewer only at the end of the file. */
static status_t read_at(const jsonl_t *f, void *bytes, size_t n, int64_t at, size_t *got) {
    size_t have = 0;
    while (have < n) {
        ssize_t r = pread(f->fd, (char *)bytes + have, n - have, (off_t)(at + (int64_t)have));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return st_errno(ST_INPUT, f->path, "read", errno);
        if (r == 0) break;
        have += (size_t)r;
    }
    *got = have;
    return ST_OK;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static status_t add_line(jsonl_t *f, int64_t begin, int64_t end, int64_t line) {
    if (end - begin >= INT32_MAX)
        return st_raise(ST_INPUT, f->path, "line %lld has %lld bytes; split it, a line must be shorter than 2 GiB",
                        (long long)line, (long long)(end - begin));
    void *offset = f->offset, *length = f->length;
    status_t st = buf_reserve(&offset, &f->cap_offset, f->n + 1, sizeof *f->offset, "line index");
    f->offset = offset;
    if (st == ST_OK) st = buf_reserve(&length, &f->cap_length, f->n + 1, sizeof *f->length, "line index");
    f->length = length;
    if (st != ST_OK) return st;
    f->offset[f->n] = begin;
    f->length[f->n] = (int32_t)(end - begin);
    f->n++;
    return ST_OK;
}

static status_t build_index(jsonl_t *f, char *block) {
    int64_t at = 0, begin = 0, line = 1;
    bool blank = true; /* nothing but white space in the present line */
    for (;;) {
        size_t got = 0;
        TRY(read_at(f, block, BLOCK_BYTES, at, &got));
        size_t i = 0;
        if (at == 0 && got >= 3 && memcmp(block, "\xef\xbb\xbf", 3) == 0) begin = 3, i = 3;
        while (i < got) {
            const char *newline = memchr(block + i, '\n', got - i);
            size_t stop = newline ? (size_t)(newline - block) : got;
            for (size_t j = i; blank && j < stop; j++) blank = is_blank(block[j]);
            if (!newline) break;
            if (!blank) TRY(add_line(f, begin, at + (int64_t)stop, line));
            begin = at + (int64_t)stop + 1;
            i = stop + 1;
            blank = true;
            line++;
        }
        at += (int64_t)got;
        if (got < BLOCK_BYTES) break;
    }
    if (!blank) TRY(add_line(f, begin, at, line));
    if (f->n == 0) return st_raise(ST_INPUT, f->path, "the file has no examples; give one JSON object a line");
    return ST_OK;
}

status_t jsonl_open(const char *path, jsonl_t *out) {
    jsonl_t f = {.fd = -1};
    char *block = NULL;
    struct stat info;
    status_t st = ST_OK;
    f.fd = open(path, O_RDONLY | O_CLOEXEC);
    if (f.fd < 0) return st_errno(ST_INPUT, path, "open", errno);
    if (fstat(f.fd, &info) != 0) {
        st = st_errno(ST_INPUT, path, "open", errno);
        goto fail;
    }
    if (!S_ISREG(info.st_mode)) {
        st = st_raise(ST_INPUT, path, "not a regular file; name a .jsonl file");
        goto fail;
    }
    f.path = buf_strdup(path);
    block = malloc(BLOCK_BYTES);
    if (!f.path || !block) {
        st = st_nomem("line index", BLOCK_BYTES);
        goto fail;
    }
    TRY_GOTO(build_index(&f, block), fail);
    free(block);
    *out = f;
    return ST_OK;
fail:
    free(block);
    jsonl_close(&f);
    return st;
}

void jsonl_close(jsonl_t *f) {
    if (f->fd >= 0) close(f->fd);
    free(f->path);
    free(f->offset);
    free(f->length);
    *f = (jsonl_t){.fd = -1};
}

status_t jsonl_read(const jsonl_t *f, int64_t i, strbuf_t *text) {
    size_t n = (size_t)f->length[i], got = 0;
    int64_t cap = (int64_t)text->cap;
    void *data = text->data;
    TRY(buf_reserve(&data, &cap, (int64_t)n + 1, 1, "line"));
    text->data = data;
    text->cap = (size_t)cap;
    strbuf_clear(text);
    TRY(read_at(f, text->data, n, f->offset[i], &got));
    if (got < n)
        return st_raise(ST_INPUT, f->path,
                        "the file became shorter while it was in use; keep it unchanged during a run");
    text->len = n;
    text->data[n] = 0;
    return ST_OK;
}

int64_t jsonl_line(const jsonl_t *f, int64_t i) {
    char *block = malloc(BLOCK_BYTES);
    if (!block) return 0;
    int64_t line = 1, at = 0;
    while (at < f->offset[i]) {
        int64_t left = f->offset[i] - at;
        size_t got = 0, want = left < BLOCK_BYTES ? (size_t)left : BLOCK_BYTES;
        ssize_t r = pread(f->fd, block, want, (off_t)at);
        if (r < 0 && errno == EINTR) continue;
        if (r <= 0) {
            line = 0;
            break;
        }
        got = (size_t)r;
        for (const char *p = block; (p = memchr(p, '\n', got - (size_t)(p - block))) != NULL; p++) line++;
        at += (int64_t)got;
    }
    free(block);
    return line;
}
