#include "train/cli/lines.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static status_t mark(lines_t *l, int64_t at) {
    void *start = l->start;
    TRY(buf_reserve(&start, &l->cap, l->count + 2, sizeof *l->start, "lines"));
    l->start = start;
    l->start[l->count] = at;
    return ST_OK;
}

status_t lines_read(lines_t *l) {
    char block[65536];
    size_t n;
    while ((n = fread(block, 1, sizeof block, stdin)) > 0) TRY(strbuf_add(&l->text, block, n));
    if (ferror(stdin)) return st_errno(ST_INPUT, "standard input", "read", errno);
    if (l->text.len && l->text.data[l->text.len - 1] != '\n') TRY(strbuf_adds(&l->text, "\n"));
    TRY(mark(l, 0));
    for (size_t i = 0; i < l->text.len; i++) {
        if (l->text.data[i] != '\n') continue;
        l->count++;
        TRY(mark(l, (int64_t)i + 1));
    }
    return ST_OK;
}

void lines_release(lines_t *l) {
    strbuf_release(&l->text);
    free(l->start);
    memset(l, 0, sizeof *l);
}

const char *lines_at(const lines_t *l, int64_t i, size_t *n) {
    *n = (size_t)(l->start[i + 1] - l->start[i] - 1);
    return l->text.data + l->start[i];
}
