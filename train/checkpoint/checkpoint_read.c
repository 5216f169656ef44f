#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint_impl.h"

enum { READ_BYTES = 1 << 20 };

static uint64_t get_u64(const unsigned char *at) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | at[i];
    return v;
}

static status_t damaged(const char *path, const char *why) {
    return st_raise(ST_INPUT, path, "%s; use another checkpoint", why);
}

static status_t read_at(int fd, const char *path, unsigned char *bytes, size_t n, int64_t at) {
    while (n > 0) {
        ssize_t got = pread(fd, bytes, n, at);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return st_errno(ST_INPUT, path, "read", errno);
        if (got == 0) return damaged(path, "the file became shorter while it was read");
        bytes += got;
        n -= (size_t)got;
        at += got;
    }
    return ST_OK;
}

static status_t check_bytes(int fd, const char *path, int64_t size, XXH64_state_t *hash, unsigned char *chunk) {
    unsigned char footer[FOOTER_BYTES];
    int64_t body = size - FOOTER_BYTES;
    if (body <= 0) return damaged(path, "too short for a checkpoint");
    TRY(read_at(fd, path, footer, sizeof footer, body));
    if (memcmp(footer, FOOTER_MAGIC, 8) != 0) return damaged(path, "no graft checkpoint, or its end is missing");
    if (get_u64(footer + 8) != (uint64_t)body) return damaged(path, "the checkpoint has lost or gained bytes");
    XXH64_reset(hash, 0);
    for (int64_t at = 0; at < body; at += READ_BYTES) {
        size_t n = body - at < READ_BYTES ? (size_t)(body - at) : READ_BYTES;
        TRY(read_at(fd, path, chunk, n, at));
        XXH64_update(hash, chunk, n);
    }
    if (XXH64_digest(hash) != get_u64(footer + 16)) return damaged(path, "the checkpoint's checksum is wrong");
    return ST_OK;
}

/* Every byte of the file is what was written, or ST_INPUT. */
static status_t check_file(const char *path, int64_t *size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return st_errno(ST_INPUT, path, "open", errno);
    struct stat s;
    status_t st = ST_OK;
    XXH64_state_t *hash = XXH64_createState();
    unsigned char *chunk = malloc(READ_BYTES);
    if (!hash || !chunk)
        st = st_nomem("checkpoint check", READ_BYTES);
    else if (fstat(fd, &s) != 0)
        st = st_errno(ST_INPUT, path, "stat", errno);
    else if (!S_ISREG(s.st_mode))
        st = damaged(path, "not a regular file");
    else
        st = check_bytes(fd, path, s.st_size, hash, chunk);
    if (st == ST_OK) *size = s.st_size;
    free(chunk);
    XXH64_freeState(hash);
    close(fd);
    return st;
}

/* Opens a group for one reader and closes it again. */
static status_t in_group(hid_t at, const char *name, status_t (*read)(hid_t, checkpoint_t *), checkpoint_t *c) {
    hid_t g = H5Gopen2(at, name, H5P_DEFAULT);
    if (g < 0) return st_raise(ST_INPUT, name, "group is missing; use another checkpoint");
    status_t st = read(g, c);
    H5Gclose(g);
    return st == ST_OK ? ST_OK : st_context(st, "/%s", name);
}

static status_t get_owned(hid_t at, const char *name, const char **out) {
    char *text = NULL;
    TRY(h5_get_text(at, name, &text));
    *out = text;
    return ST_OK;
}

static status_t read_root(hid_t file, checkpoint_t *c) {
    char *format = NULL;
    int64_t version = 0;
    TRY(h5_get_text(file, "format", &format));
    bool ours = strcmp(format, CHECKPOINT_FORMAT) == 0;
    free(format);
    if (!ours) return st_raise(ST_INPUT, "format", "not a graft checkpoint");
    TRY(h5_get_i64(file, "format_version", &version));
    if (version != CHECKPOINT_VERSION)
        return st_raise(ST_INPUT, "format_version", "is %lld, this graft reads %d; use the graft that wrote the file",
                        (long long)version, CHECKPOINT_VERSION);
    TRY(h5_get_text(file, "graft_version", &c->graft_version));
    TRY(h5_get_i64(file, "step", &c->meta.step));
    TRY(h5_get_i64(file, "tokens_seen", &c->meta.tokens));
    if (c->meta.step < 0 || c->meta.tokens < 0) return st_raise(ST_INPUT, "step", "counters are negative");
    return ST_OK;
}

static status_t read_model(hid_t g, checkpoint_t *c) {
    TRY(get_owned(g, "family", &c->meta.family));
    TRY(get_owned(g, "base_path", &c->meta.base_path));
    TRY(get_owned(g, "method", &c->meta.method));
    TRY(h5_get_u64(g, "base_fingerprint", &c->meta.base_fingerprint));
    return h5_get_u64(g, "tokenizer_fingerprint", &c->meta.tokenizer_fingerprint);
}

/* A dataset that is one text. */
static status_t get_text_data(hid_t g, const char *name, const char **out) {
    int rank;
    int64_t dim[CHECKPOINT_RANK];
    uint64_t sum;
    void *text = NULL;
    TRY(h5_get_data(g, name, H5T_C_S1, &rank, dim, &text, &sum));
    *out = text;
    return ST_OK;
}

static status_t read_config(hid_t g, checkpoint_t *c) {
    return get_text_data(g, "yaml", &c->meta.config_yaml);
}

static status_t read_sampler(hid_t g, checkpoint_t *c) {
    TRY(h5_get_i64(g, "sequences", &c->meta.sequences));
    TRY(h5_get_i64(g, "epoch", &c->meta.epoch_hint));
    if (c->meta.sequences < 0) return st_raise(ST_INPUT, "sequences", "the counter is negative");
    return h5_get_u64(g, "data_fingerprint", &c->meta.data_fingerprint);
}

static status_t read_rng(hid_t g, checkpoint_t *c) {
    return h5_get_u64(g, "seed", &c->meta.seed);
}

static status_t read_history(hid_t g, checkpoint_t *c) {
    int rank = 0;
    int64_t dim[CHECKPOINT_RANK] = {0};
    uint64_t sum;
    void *rows = NULL;
    TRY(h5_get_data(g, "metrics", H5T_IEEE_F64LE, &rank, dim, &rows, &sum));
    c->meta.history = rows;
    if (rank != 2 || dim[1] != 4) return st_raise(ST_INPUT, "metrics", "the history does not have four columns");
    c->meta.n_history = dim[0];
    return ST_OK;
}

static status_t link_name(hid_t g, hsize_t i, char **out) {
    ssize_t n = H5Lget_name_by_idx(g, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, i, NULL, 0, H5P_DEFAULT);
    if (n <= 0) return st_raise(ST_INPUT, "tensor", "number %llu has no name", (unsigned long long)i);
    void *p = NULL;
    TRY(buf_calloc(&p, n + 1, 1, "tensor name"));
    if (H5Lget_name_by_idx(g, ".", H5_INDEX_CRT_ORDER, H5_ITER_INC, i, p, (size_t)n + 1, H5P_DEFAULT) != n) {
        free(p);
        return st_raise(ST_INPUT, "tensor", "the name of number %llu cannot be read", (unsigned long long)i);
    }
    *out = p;
    return ST_OK;
}

static status_t read_trainable(hid_t g, checkpoint_t *c) {
    H5G_info_t info;
    if (H5Gget_info(g, &info) < 0 || info.nlinks > INT32_MAX)
        return st_raise(ST_INPUT, "tensors", "cannot be counted; use another checkpoint");
    void *p = NULL;
    TRY(buf_calloc(&p, (int64_t)info.nlinks, sizeof *c->tensor, "checkpoint tensors"));
    c->tensor = p;
    TRY(buf_calloc(&p, CHECKPOINT_PARTS * (int64_t)info.nlinks, sizeof *c->checksum, "checkpoint tensors"));
    c->checksum = p;
    for (hsize_t i = 0; i < info.nlinks; i++) {
        checkpoint_tensor_t *t = &c->tensor[c->count++];
        char *name = NULL;
        TRY(link_name(g, i, &name));
        t->name = name;
        p = NULL;
        TRY(h5_get_data(g, name, H5T_IEEE_F32LE, &t->rank, t->dim, c->is_outline ? NULL : &p,
                        &c->checksum[CHECKPOINT_PARTS * i]));
        t->data = p;
    }
    return ST_OK;
}

static status_t read_state(hid_t g, int s, checkpoint_t *c) {
    for (int64_t i = 0; i < c->count; i++) {
        checkpoint_tensor_t *t = &c->tensor[i];
        htri_t there = H5Lexists(g, t->name, H5P_DEFAULT);
        if (there < 0) return st_raise(ST_INPUT, t->name, "cannot be looked up; use another checkpoint");
        if (!there) continue;
        int rank = 0;
        int64_t dim[CHECKPOINT_RANK] = {0};
        void *p = NULL;
        TRY(h5_get_data(g, t->name, H5T_IEEE_F32LE, &rank, dim, c->is_outline ? NULL : &p,
                        &c->checksum[CHECKPOINT_PARTS * i + 1 + s]));
        t->state[s] = p;
        if (rank != t->rank || memcmp(dim, t->dim, sizeof dim) != 0)
            return st_raise(ST_INPUT, t->name, "the optimizer state has another shape than the tensor");
    }
    return ST_OK;
}

static status_t read_optimizer(hid_t g, checkpoint_t *c) {
    for (int s = 0; s < CHECKPOINT_STATES; s++) {
        hid_t state = H5Gopen2(g, checkpoint_state_name[s], H5P_DEFAULT);
        if (state < 0) return st_raise(ST_INPUT, checkpoint_state_name[s], "group is missing; use another checkpoint");
        status_t st = read_state(state, s, c);
        H5Gclose(state);
        if (st != ST_OK) return st_context(st, "%s", checkpoint_state_name[s]);
    }
    return ST_OK;
}

static status_t read_plan(hid_t g, checkpoint_t *c) {
    return get_text_data(g, "choices", &c->meta.choices);
}

static status_t read_all(hid_t file, checkpoint_t *c) {
    static const struct {
        const char *group;
        status_t (*read)(hid_t, checkpoint_t *);
    } part[] = {
        {"model", read_model},     {"config", read_config},       {"sampler", read_sampler},    {"rng", read_rng},
        {"history", read_history}, {"trainable", read_trainable}, {"optimizer", read_optimizer}};
    TRY(read_root(file, c));
    for (size_t i = 0; i < sizeof part / sizeof *part; i++) TRY(in_group(file, part[i].group, part[i].read, c));
    htri_t planned = H5Lexists(file, "plan", H5P_DEFAULT);
    if (planned < 0) return st_raise(ST_INPUT, "plan", "cannot be looked up; use another checkpoint");
    return planned ? in_group(file, "plan", read_plan, c) : ST_OK;
}

static status_t open_checked(const char *path, int64_t size, bool is_outline, checkpoint_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(checkpoint_t), "checkpoint"));
    checkpoint_t *c = p;
    c->file_bytes = size;
    c->is_outline = is_outline;
    h5_quiet();
    hid_t file = h5_open(path);
    status_t st;
    if (file < 0) {
        st = st_raise(ST_INPUT, path, "HDF5 cannot open the file; use another checkpoint");
    } else {
        st = read_all(file, c);
        if (st != ST_OK) st_context(st, "%s", path);
        H5Fclose(file);
    }
    if (st == ST_OK)
        *out = c;
    else
        checkpoint_close(c);
    return st;
}

status_t checkpoint_open(const char *path, checkpoint_t **out) {
    int64_t size = 0;
    TRY(check_file(path, &size));
    return open_checked(path, size, false, out);
}

status_t checkpoint_open_outline(const char *path, int64_t size, checkpoint_t **out) {
    return open_checked(path, size, true, out);
}

void checkpoint_close(checkpoint_t *c) {
    if (!c) return;
    for (int64_t i = 0; i < c->count; i++) {
        free((char *)c->tensor[i].name);
        free(c->tensor[i].data);
        for (int s = 0; s < CHECKPOINT_STATES; s++) free(c->tensor[i].state[s]);
    }
    free(c->tensor);
    free(c->checksum);
    free(c->graft_version);
    free((char *)c->meta.family);
    free((char *)c->meta.base_path);
    free((char *)c->meta.method);
    free((char *)c->meta.config_yaml);
    free((char *)c->meta.choices);
    free((double *)c->meta.history);
    free(c);
}

const checkpoint_meta_t *checkpoint_meta(const checkpoint_t *c) {
    return &c->meta;
}
int64_t checkpoint_count(const checkpoint_t *c) {
    return c->count;
}

const checkpoint_tensor_t *checkpoint_at(const checkpoint_t *c, int64_t i) {
    return i >= 0 && i < c->count ? &c->tensor[i] : NULL;
}

const checkpoint_tensor_t *checkpoint_find(const checkpoint_t *c, const char *name) {
    for (int64_t i = 0; i < c->count; i++)
        if (strcmp(c->tensor[i].name, name) == 0) return &c->tensor[i];
    return NULL;
}
