#include "data/publish.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/buf.h"

enum { ATTEMPTS = 1000 };

/* Length of the directory part of PATH with its slash, 0 for the current directory. */
static int directory_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (int)(slash - path) + 1 : 0;
}

/* Creates DIR/.NAME.tmp-PID-N. The exclusive open keeps writers on several machines of one file system apart. */
static status_t create_temporary(const char *path, int *fd, char **temp) {
    int dir = directory_length(path);
    strbuf_t name = {0};
    status_t st = ST_OK;
    *fd = -1;
    for (int i = 0; *fd < 0 && i < ATTEMPTS; i++) {
        strbuf_clear(&name);
        st = strbuf_addf(&name, "%.*s.%s.tmp-%ld-%d", dir, path, path + dir, (long)getpid(), i);
        if (st != ST_OK) break;
        *fd = open(name.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (*fd < 0 && errno != EEXIST) break;
    }
    if (st == ST_OK && *fd < 0) st = st_errno(ST_IO, path, "create a temporary file beside it", errno);
    if (st != ST_OK) {
        strbuf_release(&name);
        return st;
    }
    *temp = name.data;
    return ST_OK;
}

status_t publish_begin(const char *path, publish_t *out) {
    publish_t p = {0};
    int fd = -1;
    TRY(create_temporary(path, &fd, &p.temp));
    p.file = fdopen(fd, "wb");
    p.path = buf_strdup(path);
    if (!p.file || !p.path) {
        if (!p.file) close(fd);
        publish_abort(&p);
        return st_nomem("output file", 1);
    }
    *out = p;
    return ST_OK;
}

status_t publish_write(publish_t *p, const void *bytes, size_t n) {
    if (n && fwrite(bytes, 1, n, p->file) != n) return st_errno(ST_IO, p->path, "write", errno);
    return ST_OK;
}

static void release(publish_t *p) {
    free(p->path);
    free(p->temp);
    *p = (publish_t){0};
}

void publish_abort(publish_t *p) {
    if (p->file) fclose(p->file);
    if (p->temp) unlink(p->temp);
    release(p);
}

static status_t sync_directory(const char *path) {
    int dir = directory_length(path);
    char *name = dir ? buf_strndup(path, (size_t)dir) : buf_strdup(".");
    if (!name) return ST_NOMEM;
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    status_t st = ST_OK;
    if (fd < 0 || (fsync(fd) != 0 && errno != EINVAL)) /* EINVAL: a file system that cannot sync directories */
        st = st_errno(ST_IO, path, "sync its directory", errno);
    if (fd >= 0) close(fd);
    free(name);
    return st;
}

/* The file's contents reach the disk before its name does: the order is the whole guarantee. */
static status_t sync_and_rename(publish_t *p) {
    FILE *file = p->file;
    if (fflush(file) != 0 || ferror(file)) return st_errno(ST_IO, p->path, "write", errno);
    if (fsync(fileno(file)) != 0) return st_errno(ST_IO, p->path, "sync", errno);
    p->file = NULL;
    if (fclose(file) != 0) return st_errno(ST_IO, p->path, "close", errno);
    if (rename(p->temp, p->path) != 0) return st_errno(ST_IO, p->path, "rename the finished file to it", errno);
    return ST_OK;
}

status_t publish_commit(publish_t *p) {
    status_t st = sync_and_rename(p);
    if (st != ST_OK) {
        publish_abort(p);
        return st;
    }
    st = sync_directory(p->path);
    release(p);
    return st;
}

status_t publish_bytes(const char *path, const void *bytes, size_t n) {
    publish_t p = {0};
    TRY(publish_begin(path, &p));
    status_t st = publish_write(&p, bytes, n);
    if (st != ST_OK) {
        publish_abort(&p);
        return st;
    }
    return publish_commit(&p);
}

status_t publish_move(const char *from, const char *to) {
    if (rename(from, to) != 0) return st_errno(ST_IO, to, "rename the finished file to it", errno);
    return sync_directory(to);
}
