/* Lines of standard input; they end at \n only, and a last line without one counts. *local* */
#pragma once
#include <stdint.h>
#include "kernels/buf.h"

typedef struct lines {
    strbuf_t text;
    int64_t *start; /* [count + 1]; line i is text[start[i] .. start[i+1] - 1), the end excluding its \n */
    int64_t count, cap;
} lines_t;

status_t lines_read(lines_t *l); /* all of stdin */
void lines_release(lines_t *l);
const char *lines_at(const lines_t *l, int64_t i, size_t *n);
