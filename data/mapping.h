/* A regular file mapped read-only: the ground under every weight file. *local* */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct mapping {
    const uint8_t *data; /* NULL for an empty file */
    size_t size;
} mapping_t;

/* ST_INPUT when PATH is absent, unreadable or not a regular file. A file that another program shortens while it is
 * mapped ends this one with SIGBUS: weight files are published whole and never edited in place. */
status_t mapping_open(const char *path, mapping_t *out);
void mapping_close(mapping_t *m);
/* Takes whole pages of a mapping out of this process's memory; whoever reads them again gets them from the file. */
void mapping_forget(const void *data, size_t bytes);
