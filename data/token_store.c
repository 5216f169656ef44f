/* Reading token stores. */
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "data/token_store_impl.h"

struct token_store {
    char *path, *version;
    int fd;
    int64_t bytes; /* of the file */
    token_store_info_t info;
    store_layout_t layout;
    uint64_t *check[STORE_STREAMS];             /* [blocks] */
    _Atomic unsigned char *seen[STORE_STREAMS]; /* [blocks] 1: verified; two threads may both find a 0, to no harm */
    int64_t *offset, *metadata_offset;          /* [documents + 1] */
    uint64_t fingerprint;
};

static status_t read_at(const token_store_t *s, void *bytes, int64_t n, int64_t at) {
    for (int64_t have = 0; have < n;) {
        ssize_t r = pread(s->fd, (char *)bytes + have, (size_t)(n - have), (off_t)(at + have));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return st_errno(ST_INPUT, s->path, "read", errno);
        if (r == 0)
            return st_raise(ST_INPUT, s->path, "the file became shorter while it was in use; keep it unchanged");
        have += r;
    }
    return ST_OK;
}

static uint64_t get_u64(const unsigned char *at) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--) v = v << 8 | at[i];
    return v;
}

/* --- blocks ---------------------------------------------------------------------------------------------------- */

static status_t verify_block(const token_store_t *s, int stream, int64_t block) {
    char bytes[STORE_BLOCK];
    const store_stream_t *t = &s->layout.stream[stream];
    int64_t left = t->bytes - block * STORE_BLOCK, n = left < STORE_BLOCK ? left : STORE_BLOCK;
    TRY(read_at(s, bytes, n, t->at + block * STORE_BLOCK));
    if (XXH64(bytes, (size_t)n, 0) != s->check[stream][block])
        return st_raise(ST_INPUT, s->path, "dataset '%s': block %lld of %lld is damaged; build the store again",
                        token_store_stream_names[stream], (long long)block, (long long)t->blocks);
    atomic_store_explicit(&s->seen[stream][block], 1, memory_order_relaxed);
    return ST_OK;
}

/* Reads bytes [from, from + n) of a stream, every block of them verified once. */
static status_t read_stream(const token_store_t *s, int stream, int64_t from, int64_t n, void *bytes) {
    for (int64_t b = from / STORE_BLOCK; b * STORE_BLOCK < from + n; b++)
        if (!atomic_load_explicit(&s->seen[stream][b], memory_order_relaxed)) TRY(verify_block(s, stream, b));
    return read_at(s, bytes, n, s->layout.stream[stream].at + from);
}

status_t token_store_verify(const token_store_t *s) {
    for (int i = 0; i < STORE_STREAMS; i++)
        for (int64_t b = 0; b < s->layout.stream[i].blocks; b++) TRY(verify_block(s, i, b));
    return ST_OK;
}

/* --- opening --------------------------------------------------------------------------------------------------- */

static bool read_footer(int fd, int64_t bytes, unsigned char footer[STORE_FOOTER_BYTES]) {
    return bytes > STORE_FOOTER_BYTES &&
           pread(fd, footer, STORE_FOOTER_BYTES, (off_t)(bytes - STORE_FOOTER_BYTES)) == STORE_FOOTER_BYTES &&
           memcmp(footer, STORE_FOOTER_MAGIC, 8) == 0;
}

bool token_store_recognise(const char *path) {
    unsigned char footer[STORE_FOOTER_BYTES];
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    bool is = fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && read_footer(fd, info.st_size, footer);
    close(fd);
    return is;
}

/* The head as HDF5 will see it must be what was written. */
static status_t check_head(token_store_t *s, const unsigned char *footer) {
    uint64_t end = get_u64(footer + 8), head = get_u64(footer + 16);
    if (end != (uint64_t)(s->bytes - STORE_FOOTER_BYTES) || head == 0 || head > end || head > INT32_MAX)
        return st_raise(ST_INPUT, s->path, "the footer is damaged; build the store again");
    void *bytes = NULL;
    TRY(buf_calloc(&bytes, (int64_t)head, 1, "head of a token store"));
    status_t st = read_at(s, bytes, (int64_t)head, 0);
    if (st == ST_OK && XXH64(bytes, head, 0) != get_u64(footer + 24))
        st = st_raise(ST_INPUT, s->path, "the head of the file is damaged; build the store again");
    free(bytes);
    s->layout.head_bytes = (int64_t)head;
    s->layout.end = (int64_t)end;
    return st;
}

static status_t read_checks(token_store_t *s, uint64_t sum) {
    void *memory;
    uint64_t h = 0;
    for (int i = 0; i < STORE_STREAMS; i++) {
        int64_t n = s->layout.stream[i].blocks;
        TRY(buf_calloc(&memory, n, sizeof *s->seen[i], "blocks of a token store"));
        s->seen[i] = memory;
        TRY(buf_calloc(&memory, n, sizeof *s->check[i], "checksums of a token store"));
        s->check[i] = memory;
        TRY(read_at(s, s->check[i], n * 8, s->layout.stream[i].check_at));
        h = XXH64(s->check[i], (size_t)n * 8, h);
    }
    if (h != sum) return st_raise(ST_INPUT, s->path, "the checksums are damaged; build the store again");
    uint64_t key[2] = {h, s->info.tokenizer_fingerprint};
    s->fingerprint = XXH64(key, sizeof key, 0);
    return ST_OK;
}

static status_t read_offsets(token_store_t *s, int stream, int64_t least, int64_t end, int64_t **out) {
    void *memory;
    int64_t n = s->info.documents;
    TRY(buf_calloc(&memory, n + 1, sizeof(int64_t), "offsets of a token store"));
    int64_t *offset = *out = memory;
    TRY(read_stream(s, stream, 0, (n + 1) * 8, offset));
    bool good = offset[0] == 0 && offset[n] == end;
    for (int64_t i = 0; good && i < n; i++)
        good = offset[i + 1] >= 0 && offset[i] <= end - least && offset[i + 1] - offset[i] >= least;
    if (!good)
        return st_raise(ST_INPUT, s->path, "dataset '%s' does not ascend from 0 to %lld; build the store again",
                        token_store_stream_names[stream], (long long)end);
    return ST_OK;
}

static status_t read_fields(token_store_t *s) {
    void *memory;
    int64_t n = s->layout.stream[STORE_FIELDS].bytes;
    TRY(buf_calloc(&memory, n + 1, 1, "field table of a token store"));
    s->info.fields = memory;
    TRY(read_stream(s, STORE_FIELDS, 0, n, memory));
    json_t *table = json_loadb(memory, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
    bool good = json_is_object(table);
    json_decref(table);
    return good ? ST_OK : st_raise(ST_INPUT, s->path, "dataset 'metadata_fields' is no JSON object");
}

static status_t open_store(token_store_t *s) {
    unsigned char footer[STORE_FOOTER_BYTES];
    struct stat info;
    s->fd = open(s->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* opening a fifo by mistake must not hang */
    if (s->fd < 0 || fstat(s->fd, &info) != 0) return st_errno(ST_INPUT, s->path, "open", errno);
    if (!S_ISREG(info.st_mode)) return st_raise(ST_INPUT, s->path, "is not a regular file; name a token store");
    s->bytes = info.st_size;
    if (!read_footer(s->fd, s->bytes, footer))
        return st_raise(ST_INPUT, s->path, "is no token store, or one that was cut off; make it with graft data build");
    TRY(check_head(s, footer));
    status_t st = token_store_read_head(s->path, &s->info, &s->version, &s->layout);
    if (st != ST_OK) return st_context(st, "%s", s->path);
    TRY(read_checks(s, get_u64(footer + 32)));
    TRY(read_offsets(s, STORE_OFFSETS, 1, s->info.tokens, &s->offset));
    TRY(read_offsets(s, STORE_METADATA_OFFSETS, 2, s->info.metadata_bytes, &s->metadata_offset));
    return read_fields(s);
}

status_t token_store_open(const char *path, token_store_t **out) {
    void *memory;
    TRY(buf_calloc(&memory, 1, sizeof(token_store_t), "token store"));
    token_store_t *s = memory;
    s->fd = -1;
    s->path = buf_strdup(path);
    status_t st = s->path ? open_store(s) : ST_NOMEM;
    if (st != ST_OK) {
        token_store_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

static void release_text(const char *text) {
    free((void *)(uintptr_t)text);
}

void token_store_close(token_store_t *s) {
    if (!s) return;
    if (s->fd >= 0) close(s->fd);
    for (int i = 0; i < STORE_STREAMS; i++) {
        free(s->check[i]);
        free(s->seen[i]);
    }
    release_text(s->info.tokenizer);
    release_text(s->info.text_field);
    release_text(s->info.fields);
    free(s->offset);
    free(s->metadata_offset);
    free(s->version);
    free(s->path);
    free(s);
}

/* --- use ------------------------------------------------------------------------------------------------------- */

const char *token_store_path(const token_store_t *s) {
    return s->path;
}
const token_store_info_t *token_store_info(const token_store_t *s) {
    return &s->info;
}
const char *token_store_version(const token_store_t *s) {
    return s->version;
}
uint64_t token_store_fingerprint(const token_store_t *s) {
    return s->fingerprint;
}
int64_t token_store_bytes(const token_store_t *s) {
    return s->bytes;
}
int64_t token_store_documents(const token_store_t *s) {
    return s->info.documents;
}
int64_t token_store_length(const token_store_t *s, int64_t document) {
    return s->offset[document + 1] - s->offset[document];
}

static status_t read_wide(const token_store_t *s, int64_t first, int64_t n, int32_t *ids) {
    TRY(read_stream(s, STORE_TOKENS, first * 4, n * 4, ids));
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0)
            return st_raise(ST_INPUT, s->path, "token %lld is no token id; build the store again",
                            (long long)(first + i));
    return ST_OK;
}

/* The narrow ids are read into the upper half of the array and widened from its beginning. */
static status_t read_narrow(const token_store_t *s, int64_t first, int64_t n, int32_t *ids) {
    char *packed = (char *)ids + n * 2;
    TRY(read_stream(s, STORE_TOKENS, first * 2, n * 2, packed));
    for (int64_t i = 0; i < n; i++) {
        uint16_t id;
        memcpy(&id, packed + 2 * i, sizeof id);
        ids[i] = id;
    }
    return ST_OK;
}

status_t token_store_ids(const token_store_t *s, int64_t document, int64_t from, int64_t n, i32buf_t *ids) {
    if (document < 0 || document >= s->info.documents || from < 0 || n < 0 ||
        from > token_store_length(s, document) - n)
        return st_raise(ST_INTERNAL, "token_store_ids", "tokens [%lld, +%lld) of document %lld", (long long)from,
                        (long long)n, (long long)document);
    void *data = ids->data;
    status_t st = buf_reserve(&data, &ids->cap, ids->len + n, sizeof *ids->data, "token ids");
    ids->data = data;
    if (st != ST_OK || n == 0) return st;
    int64_t first = s->offset[document] + from;
    TRY(s->info.token_bytes == 2 ? read_narrow(s, first, n, ids->data + ids->len)
                                 : read_wide(s, first, n, ids->data + ids->len));
    ids->len += n;
    return ST_OK;
}

status_t token_store_metadata(const token_store_t *s, int64_t document, strbuf_t *json) {
    if (document < 0 || document >= s->info.documents)
        return st_raise(ST_INTERNAL, "token_store_metadata", "document %lld", (long long)document);
    int64_t from = s->metadata_offset[document], n = s->metadata_offset[document + 1] - from;
    int64_t cap = (int64_t)json->cap;
    void *data = json->data;
    status_t st = buf_reserve(&data, &cap, n + 1, 1, "metadata");
    json->data = data;
    json->cap = (size_t)cap;
    if (st != ST_OK) return st;
    json->len = 0;
    json->data[0] = 0;
    TRY(read_stream(s, STORE_METADATA, from, n, json->data));
    json->len = (size_t)n;
    json->data[n] = 0;
    return ST_OK;
}
