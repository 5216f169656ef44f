/* Atomic publication of a file: it is written under a temporary name in the same directory and appears under its own
 * name only when it is complete and on disk. After a crash at any moment the old file or the new one is there; a writer
 * that was killed leaves DIR/.NAME.tmp-PID-N behind, which nobody takes for the file. *local*
 *
 *     publish_t p;
 *     TRY(publish_begin(path, &p));
 *     status_t st = write_something(p.file);
 *     if (st != ST_OK) return publish_abort(&p), st;
 *     return publish_commit(&p);
 */
#pragma once
#include <stddef.h>
#include <stdio.h>
#include "kernels/status.h"

typedef struct publish {
    FILE *file; /* open for writing, empty */
    char *path; /* the final name */
    char *
        temp; /* the name in use until publish_commit; a library may rewrite this file (same inode) instead of `file` */
} publish_t;

/* ST_IO or ST_NOSPACE when the file cannot be created; nothing to release then. */
status_t publish_begin(const char *path, publish_t *out);

/* fwrite that raises ST_NOSPACE or ST_IO with the final name. */
status_t publish_write(publish_t *p, const void *bytes, size_t n);

/* Flush, fsync, close, rename, fsync of the directory. Ends the publication, also on failure: the temporary file is
 * removed and the old file, if any, is untouched, except where only the last step, the directory's fsync, failed. */
status_t publish_commit(publish_t *p);

/* Removes the temporary file and ends the publication. Keeps the error chain. */
void publish_abort(publish_t *p);

/* The whole of it for contents that are in memory. */
status_t publish_bytes(const char *path, const void *bytes, size_t n);

/* rename(from, to) of a file that is on disk already, on one file system, and a sync of the directory of `to`. */
status_t publish_move(const char *from, const char *to);
