#include "kernels/status.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MESSAGE_BYTES = 2048 };
static _Thread_local char message[MESSAGE_BYTES]; /* the only mutable static of the project: errno's counterpart */

static const struct {
    const char *text;
    int exit_code;
} table[ST_COUNT] = {
#define ST_ROW(name, text, code) [name] = {text, code},
    ST_LIST(ST_ROW)
#undef ST_ROW
};

status_t st_raise(status_t code, const char *where, const char *fmt, ...) {
    int used = where && where[0] ? snprintf(message, sizeof message, "%s: ", where) : 0;
    if (used < 0 || used >= MESSAGE_BYTES) used = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message + used, sizeof message - (size_t)used, fmt, ap);
    va_end(ap);
    return code;
}

status_t st_context(status_t code, const char *fmt, ...) {
    char tail[MESSAGE_BYTES];
    memcpy(tail, message, sizeof tail);
    va_list ap;
    va_start(ap, fmt);
    int used = vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    if (used < 0 || used >= MESSAGE_BYTES) used = 0;
    snprintf(message + used, sizeof message - (size_t)used, ": %.*s", MESSAGE_BYTES - 1 - used,
             tail); /* cut, not lost */
    return code;
}

status_t st_nomem(const char *what, size_t bytes) {
    return st_raise(ST_NOMEM, what, "cannot allocate %zu bytes; use a smaller model or batch, or more memory", bytes);
}

status_t st_errno(status_t otherwise, const char *where, const char *verb, int err) {
    status_t code = err == ENOSPC || err == EDQUOT ? ST_NOSPACE : err == ENOMEM ? ST_NOMEM : otherwise;
    return st_raise(code, where, "cannot %s: %s", verb, strerror(err));
}

const char *st_message(void) {
    return message;
}

void st_clear(void) {
    message[0] = 0;
}

const char *st_name(status_t code) {
    return table[code].text;
}

int st_exit_code(status_t code) {
    return table[code].exit_code;
}

status_t st_adopt(status_t code, const char *text) {
    snprintf(message, sizeof message, "%s", text);
    return code;
}

void st_print(void) {
    char line[MESSAGE_BYTES + 32];
    int n = snprintf(line, sizeof line, "graft: error: %s\n", message);
    if (n > 0 && write(STDERR_FILENO, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0) return;
}
