/* The write protocol: build in memory, write under a temporary name, sync, read back and compare with the tensors in
 * memory, rename, sync the directory. Whatever fails before the rename leaves the old file as it was. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

enum { WRITE_MOST = 1 << 30 };

static status_t write_all(int fd, const char *path, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, bytes, n < WRITE_MOST ? n : WRITE_MOST);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return st_errno(ST_IO, path, "write", errno);
        if (done == 0) return st_errno(ST_IO, path, "write", ENOSPC);
        bytes += done;
        n -= (size_t)done;
    }
    return ST_OK;
}

status_t checkpoint_put(const char *path, const char *bytes, size_t n) {
    if (unlink(path) != 0 && errno != ENOENT) return st_errno(ST_IO, path, "remove the old file", errno);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return st_errno(ST_IO, path, "create", errno);
    status_t st = write_all(fd, path, bytes, n);
    if (st == ST_OK && fsync(fd) != 0) st = st_errno(ST_IO, path, "sync", errno);
    if (close(fd) != 0 && st == ST_OK) st = st_errno(ST_IO, path, "close", errno);
    if (st != ST_OK) unlink(path);
    return st;
}

static status_t sync_directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    char *dir = slash == path ? buf_strdup("/") : slash ? buf_strndup(path, (size_t)(slash - path)) : buf_strdup(".");
    if (!dir) return ST_NOMEM;
    status_t st = ST_OK;
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) st = st_errno(ST_IO, dir, "open the directory", errno);
    /* EINVAL: a file system that cannot sync directories has no stronger promise to give */
    else if (fsync(fd) != 0 && errno != EINVAL)
        st = st_errno(ST_IO, dir, "sync the directory", errno);
    if (fd >= 0) close(fd);
    free(dir);
    return st;
}

status_t checkpoint_rename(const char *from, const char *to) {
    if (rename(from, to) != 0) return st_errno(ST_IO, to, "rename the finished file", errno);
    return sync_directory_of(to);
}

static bool same(const float *a, const float *b, int64_t n) {
    return a && b ? memcmp(a, b, (size_t)n * sizeof *a) == 0 : !a && !b;
}

static bool same_tensor(const checkpoint_tensor_t *a, const checkpoint_tensor_t *b) {
    int64_t n = checkpoint_elements(a->rank, a->dim);
    if (a->rank != b->rank || n != checkpoint_elements(b->rank, b->dim) || strcmp(a->name, b->name)) return false;
    if (memcmp(a->dim, b->dim, (size_t)a->rank * sizeof *a->dim) != 0 || !same(a->data, b->data, n)) return false;
    for (int s = 0; s < CHECKPOINT_STATES; s++)
        if (!same(a->state[s], b->state[s], n)) return false;
    return true;
}

/* What stands on disk is what is in memory. */
static status_t read_back(const char *path, const checkpoint_meta_t *m, const checkpoint_tensor_t *t, int64_t n) {
    checkpoint_t *c = NULL;
    status_t st = checkpoint_open(path, &c);
    if (st != ST_OK) return st_context(st == ST_NOMEM ? st : ST_IO, "reading the new checkpoint back");
    const checkpoint_meta_t *r = checkpoint_meta(c);
    bool equal = checkpoint_count(c) == n && r->step == m->step && r->sequences == m->sequences && r->seed == m->seed &&
                 r->tokens == m->tokens && r->n_history == m->n_history;
    for (int64_t i = 0; i < n && equal; i++) equal = same_tensor(&t[i], checkpoint_at(c, i));
    checkpoint_close(c);
    return equal ? ST_OK : st_raise(ST_IO, path, "the disk gave back other values than were written; check the disk");
}

status_t checkpoint_write(const char *path, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n) {
    strbuf_t temporary = {0};
    char *image = NULL;
    size_t size = 0;
    status_t st = ST_OK;
    TRY_GOTO(strbuf_addf(&temporary, "%s.tmp", path), done);
    TRY_GOTO(checkpoint_image(meta, t, n, &image, &size), done);
    TRY_GOTO(checkpoint_put(temporary.data, image, size), done);
    free(image); /* before reading back: a checkpoint is in memory twice at most */
    image = NULL;
    st = read_back(temporary.data, meta, t, n);
    if (st == ST_OK) st = checkpoint_rename(temporary.data, path);
    if (st != ST_OK) unlink(temporary.data);
done:
    if (st != ST_OK) st_context(st, "saving %s", path);
    free(image);
    strbuf_release(&temporary);
    return st;
}
