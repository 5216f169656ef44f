/* JSON-lines files, indexed by line and read with pread: the text stays on disk.
 *
 * Lines end at '\n' only. Lines of white space alone are no examples but count as lines. A UTF-8 byte order mark at the
 * start of the file is skipped. The index costs 12 bytes a line. All functions are *local*; read and line are
 * thread-safe. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"

typedef struct jsonl {
    char *path;
    int fd;
    int64_t n;       /* examples */
    int64_t *offset; /* [n] first byte of the line */
    int32_t *length; /* [n] bytes without the end of line */
    int64_t cap_offset, cap_length;
} jsonl_t;

/* Opens and indexes a regular file. ST_INPUT: missing, not a file, without any example, a line of 2 GiB or more. */
status_t jsonl_open(const char *path, jsonl_t *out);
void jsonl_close(jsonl_t *f);
/* Replaces `text` by the line of example i. ST_INPUT when the file became shorter since it was opened. */
status_t jsonl_read(const jsonl_t *f, int64_t i, strbuf_t *text);
/* The line number (from 1) of example i, counted on demand by reading the file: for messages. 0 if unreadable. */
int64_t jsonl_line(const jsonl_t *f, int64_t i);
