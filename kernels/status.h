/* Status codes and the error chain: how every module reports failure.
 *
 * A function that can fail returns status_t and writes its outputs only on ST_OK. The first function that detects an
 * error calls st_raise() with the exact place and cause; callers pass the status on (TRY) and may add context with
 * st_context(), but never report it a second time. The text lives in one thread-local buffer and is printed once, by
 * the program's end, as `graft: error: where: what; what to do`. All functions here are *local*. */
#pragma once
#include <stddef.h>

/* name, text, process exit code (docs/failure-model.md has the list for users) */
#define ST_LIST(X)                                                                                                     \
    X(ST_OK, "success", 0)                                                                                             \
    X(ST_USAGE, "wrong usage or configuration", 2)                                                                     \
    X(ST_INPUT, "bad or missing input file", 3)                                                                        \
    X(ST_NUMERIC, "numerical failure", 4)                                                                              \
    X(ST_NOMEM, "out of memory", 5)                                                                                    \
    X(ST_NOSPACE, "out of disk space", 5)                                                                              \
    X(ST_STOPPED, "stopped on request after saving", 75)                                                               \
    X(ST_IO, "input/output failure", 1)                                                                                \
    X(ST_COMM, "communication failure", 1)                                                                             \
    X(ST_INTERNAL, "internal error", 1)                                                                                \
    X(ST_PEER, "another rank failed", 1)

#define ST_ENUM(name, text, code) name,
typedef enum status { ST_LIST(ST_ENUM) ST_COUNT } status_t;
#undef ST_ENUM

/* Starts the chain: `where` is a file, file:line, key, tensor name or command; fmt says what is wrong and, after a
 * semicolon, what to do. Returns `code` so that `return st_raise(...)` reads well. A chain already there is replaced.
 */
status_t st_raise(status_t code, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* Puts "context: " in front of the present message (for example the file that contained the bad tensor). */
status_t st_context(status_t code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Raises ST_NOMEM for an allocation of `bytes` for `what`. */
status_t st_nomem(const char *what, size_t bytes);

/* Raises the status that fits errno `err`: ST_NOSPACE for ENOSPC and EDQUOT, ST_NOMEM for ENOMEM, else `otherwise`
 * (ST_INPUT for files a user named, ST_IO for files that we write). Text: "cannot <verb>: <strerror>". */
status_t st_errno(status_t otherwise, const char *where, const char *verb, int err);

const char *st_message(void);       /* the present chain, "" if none; valid until the next st_* call of this thread */
void st_clear(void);                /* forgets the chain */
const char *st_name(status_t code); /* the text of ST_LIST */
int st_exit_code(status_t code);    /* the exit code of ST_LIST */
void st_print(void);                /* writes `graft: error: <chain>` to stderr in one write */

/* Installs a different chain text, as received from another rank. */
status_t st_adopt(status_t code, const char *message);

#define TRY(call)                                                                                                      \
    do {                                                                                                               \
        status_t st_try_ = (call);                                                                                     \
        if (st_try_ != ST_OK) return st_try_;                                                                          \
    } while (0)

/* For functions with a cleanup ladder: `status_t st = ST_OK;` in scope, jumps to `label` on failure. */
#define TRY_GOTO(call, label)                                                                                          \
    do {                                                                                                               \
        st = (call);                                                                                                   \
        if (st != ST_OK) goto label;                                                                                   \
    } while (0)
