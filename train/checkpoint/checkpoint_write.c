/* The write protocol: write under a temporary name, sync, read back and compare with what is in memory, rename, sync
 * the directory. Whatever fails before the rename leaves the old file as it was. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

/* PIECE stays in the cache between hashing and writing; after AHEAD bytes the disk is told to begin. */
enum { PIECE = 1 << 18, AHEAD = 1 << 25 };

static status_t write_all(int fd, const char *path, const char *bytes, size_t n) {
    while (n > 0) {
        ssize_t done = write(fd, bytes, n);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return st_errno(ST_IO, path, "write", errno);
        if (done == 0) return st_errno(ST_IO, path, "write", ENOSPC);
        bytes += done;
        n -= (size_t)done;
    }
    return ST_OK;
}

static status_t create(const char *path, int *fd) {
    if (unlink(path) != 0 && errno != ENOENT) return st_errno(ST_IO, path, "remove the old file", errno);
    *fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    return *fd < 0 ? st_errno(ST_IO, path, "create", errno) : ST_OK;
}

static status_t sync_and_close(int fd, const char *path, status_t st) {
    if (st == ST_OK && fsync(fd) != 0) st = st_errno(ST_IO, path, "sync", errno);
    if (close(fd) != 0 && st == ST_OK) st = st_errno(ST_IO, path, "close", errno);
    if (st != ST_OK) unlink(path);
    return st;
}

status_t checkpoint_put(const char *path, const char *bytes, size_t n) {
    int fd;
    TRY(create(path, &fd));
    return sync_and_close(fd, path, write_all(fd, path, bytes, n));
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

/* --- a file from its head, the tensors and a footer -------------------------------------------------------------- */

typedef struct content {
    const checkpoint_head_t *head;
    const checkpoint_tensor_t *tensor;
    int64_t n;
    char footer[FOOTER_BYTES];
} content_t;

/* One way through a file. */
typedef struct pass {
    int fd;
    const char *path;
    int64_t at;          /* place in the file */
    XXH64_state_t *hash; /* of what was written */
    char *piece;         /* [PIECE] what is read back */
} pass_t;

typedef status_t (*take_t)(pass_t *, const char *bytes, size_t n);

static status_t write_piece(pass_t *p, const char *bytes, size_t n) {
    XXH64_update(p->hash, bytes, n);
    TRY(write_all(p->fd, p->path, bytes, n));
    p->at += (int64_t)n;
    /* so that the sync has little left to wait for; only a hint, its errors come up in the sync */
    if (p->at / AHEAD != (p->at - (int64_t)n) / AHEAD) (void)sync_file_range(p->fd, 0, p->at, SYNC_FILE_RANGE_WRITE);
    return ST_OK;
}

static status_t compare_piece(pass_t *p, const char *bytes, size_t n) {
    for (size_t got = 0; got < n;) {
        ssize_t more = pread(p->fd, p->piece + got, n - got, p->at + (int64_t)got);
        if (more < 0 && errno == EINTR) continue;
        if (more < 0) return st_errno(ST_IO, p->path, "read back", errno);
        if (more == 0) return st_raise(ST_IO, p->path, "the file is shorter than what was written; check the disk");
        got += (size_t)more;
    }
    if (memcmp(p->piece, bytes, n) != 0)
        return st_raise(ST_IO, p->path, "the disk gave back other values than were written; check the disk");
    p->at += (int64_t)n;
    return ST_OK;
}

static status_t in_pieces(pass_t *p, take_t take, const void *bytes, int64_t n) {
    for (int64_t at = 0; at < n; at += PIECE)
        TRY(take(p, (const char *)bytes + at, n - at < PIECE ? (size_t)(n - at) : PIECE));
    return ST_OK;
}

/* All but the footer. */
static status_t each_piece(pass_t *p, take_t take, const content_t *c) {
    TRY(in_pieces(p, take, c->head->bytes, c->head->size));
    for (int64_t i = 0; i < c->n; i++) {
        const checkpoint_tensor_t *t = &c->tensor[i];
        const int64_t bytes = checkpoint_elements(t->rank, t->dim) * (int64_t)sizeof(float);
        TRY(in_pieces(p, take, t->data, bytes));
        for (int s = 0; s < CHECKPOINT_STATES; s++)
            if (t->state[s]) TRY(in_pieces(p, take, t->state[s], bytes));
    }
    return p->at == c->head->end ? ST_OK : st_raise(ST_INTERNAL, p->path, "the tensors do not end where the file does");
}

static void put_u64(char *at, uint64_t v) {
    for (int i = 0; i < 8; i++) at[i] = (char)(v >> (8 * i) & 0xff);
}

static status_t write_content(pass_t *p, content_t *c) {
    TRY(create(p->path, &p->fd));
    XXH64_reset(p->hash, 0);
    status_t st = each_piece(p, write_piece, c);
    memcpy(c->footer, FOOTER_MAGIC, 8);
    put_u64(c->footer + 8, (uint64_t)p->at);
    put_u64(c->footer + 16, XXH64_digest(p->hash));
    if (st == ST_OK) st = write_all(p->fd, p->path, c->footer, sizeof c->footer);
    return sync_and_close(p->fd, p->path, st);
}

static status_t compare_content(pass_t *p, const content_t *c) {
    struct stat s;
    p->at = 0;
    p->fd = open(p->path, O_RDONLY | O_CLOEXEC);
    if (p->fd < 0) return st_errno(ST_IO, p->path, "open", errno);
    status_t st = each_piece(p, compare_piece, c);
    if (st == ST_OK) st = compare_piece(p, c->footer, sizeof c->footer);
    if (st == ST_OK && (fstat(p->fd, &s) != 0 || s.st_size != p->at))
        st = st_raise(ST_IO, p->path, "the file is longer than what was written; check the disk");
    close(p->fd);
    return st;
}

static bool same_shape(const checkpoint_tensor_t *a, const checkpoint_tensor_t *b) {
    if (strcmp(a->name, b->name) != 0 || a->rank != b->rank) return false;
    for (int i = 0; i < a->rank; i++)
        if (a->dim[i] != b->dim[i]) return false;
    return true;
}

/* The bytes are right; HDF5 makes of them what was meant. */
static status_t check_outline(const char *path, int64_t size, const checkpoint_meta_t *m, const content_t *content) {
    checkpoint_t *c = NULL;
    status_t st = checkpoint_open_outline(path, size, &c);
    if (st != ST_OK) return st_context(st == ST_NOMEM ? st : ST_IO, "reading the new checkpoint back");
    const checkpoint_meta_t *r = checkpoint_meta(c);
    bool equal = checkpoint_count(c) == content->n && r->step == m->step && r->sequences == m->sequences &&
                 r->seed == m->seed && r->tokens == m->tokens && r->n_history == m->n_history;
    for (int64_t i = 0; i < content->n && equal; i++) equal = same_shape(&content->tensor[i], checkpoint_at(c, i));
    for (int64_t i = 0; i < CHECKPOINT_PARTS * content->n && equal; i++)
        equal = c->checksum[i] == content->head->checksum[i];
    checkpoint_close(c);
    return equal ? ST_OK : st_raise(ST_INTERNAL, path, "HDF5 finds other tensors in the file than were written");
}

static status_t publish(pass_t *p, const char *path, const checkpoint_meta_t *meta, content_t *content) {
    void *piece;
    TRY(buf_calloc(&piece, PIECE, 1, "piece of a checkpoint"));
    p->piece = piece;
    p->hash = XXH64_createState();
    status_t st = p->hash ? write_content(p, content) : st_nomem("checkpoint", 0);
    if (st == ST_OK) st = compare_content(p, content);
    if (st == ST_OK) st = check_outline(p->path, p->at, meta, content);
    if (st == ST_OK) st = checkpoint_rename(p->path, path);
    if (st != ST_OK) unlink(p->path);
    XXH64_freeState(p->hash);
    free(piece);
    return st;
}

status_t checkpoint_write(const char *path, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n) {
    strbuf_t temporary = {0};
    checkpoint_head_t head = {0};
    status_t st = strbuf_addf(&temporary, "%s.tmp", path);
    if (st == ST_OK) st = checkpoint_head_make(meta, t, n, &head);
    if (st == ST_OK) {
        pass_t pass = {.path = temporary.data};
        content_t content = {.head = &head, .tensor = t, .n = n};
        st = publish(&pass, path, meta, &content);
    }
    if (st != ST_OK) st_context(st, "saving %s", path);
    checkpoint_head_release(&head);
    strbuf_release(&temporary);
    return st;
}
