#include "data/token_store_write.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>
#include "data/publish.h"
#include "data/token_store_impl.h"

/* A dataset while it is filled: one block in memory, the ones before it in the file. */
typedef struct output {
    char *block;     /* [STORE_BLOCK] */
    int64_t fill;    /* bytes in it */
    int64_t written; /* bytes in front of it */
    uint64_t *check; /* [blocks], taken from memory */
} output_t;

struct token_store_writer {
    publish_t file;
    token_store_info_t info; /* borrowed texts are not used after create */
    store_layout_t layout;
    output_t out[STORE_STREAMS];
    i32buf_t packed;
    int64_t documents, tokens, metadata_bytes; /* so far */
    uint64_t head_hash;
};

static status_t write_at(const token_store_writer_t *w, const void *bytes, int64_t n, int64_t at) {
    for (int64_t done = 0; done < n;) {
        ssize_t r = pwrite(fileno(w->file.file), (const char *)bytes + done, (size_t)(n - done), (off_t)(at + done));
        if (r < 0 && errno == EINTR) continue;
        if (r < 0) return st_errno(ST_IO, w->file.path, "write", errno);
        done += r;
    }
    return ST_OK;
}

static status_t flush_block(token_store_writer_t *w, int stream) {
    output_t *o = &w->out[stream];
    o->check[o->written / STORE_BLOCK] = XXH64(o->block, (size_t)o->fill, 0);
    TRY(write_at(w, o->block, o->fill, w->layout.stream[stream].at + o->written));
    o->written += o->fill;
    o->fill = 0;
    return ST_OK;
}

static status_t put(token_store_writer_t *w, int stream, const void *bytes, int64_t n) {
    output_t *o = &w->out[stream];
    if (n > w->layout.stream[stream].bytes - o->written - o->fill)
        return st_raise(ST_INTERNAL, w->file.path, "dataset '%s' becomes longer than announced",
                        token_store_stream_names[stream]);
    for (int64_t done = 0; done < n;) {
        int64_t room = STORE_BLOCK - o->fill, part = n - done < room ? n - done : room;
        memcpy(o->block + o->fill, (const char *)bytes + done, (size_t)part);
        o->fill += part;
        done += part;
        if (o->fill == STORE_BLOCK) TRY(flush_block(w, stream));
    }
    return ST_OK;
}

static status_t begin(token_store_writer_t *w, const token_store_info_t *info) {
    void *memory;
    char *head = NULL;
    TRY(token_store_make_head(info, &w->layout, &head));
    status_t st = write_at(w, head, w->layout.head_bytes, 0);
    w->head_hash = XXH64(head, (size_t)w->layout.head_bytes, 0);
    free(head);
    TRY(st);
    /* A disk that is too small is better found now than at the end; where this is not supported, it is found then. */
    int rc = posix_fallocate(fileno(w->file.file), 0, (off_t)(w->layout.end + STORE_FOOTER_BYTES));
    if (rc == ENOSPC || rc == EDQUOT) return st_errno(ST_IO, w->file.path, "allocate", rc);
    for (int i = 0; i < STORE_STREAMS; i++) {
        TRY(buf_calloc(&memory, STORE_BLOCK, 1, "block of a token store"));
        w->out[i].block = memory;
        TRY(buf_calloc(&memory, w->layout.stream[i].blocks, sizeof(uint64_t), "checksums of a token store"));
        w->out[i].check = memory;
    }
    const int64_t zero = 0;
    TRY(put(w, STORE_OFFSETS, &zero, sizeof zero));
    TRY(put(w, STORE_METADATA_OFFSETS, &zero, sizeof zero));
    return put(w, STORE_FIELDS, info->fields, w->layout.stream[STORE_FIELDS].bytes);
}

status_t token_store_create(const char *path, const token_store_info_t *info, token_store_writer_t **out) {
    void *memory;
    if (info->documents < 1) return st_raise(ST_USAGE, path, "a token store needs at least one document");
    if (strlen(info->tokenizer) >= STORE_TEXT_MOST || strlen(info->text_field) >= STORE_TEXT_MOST)
        return st_raise(ST_USAGE, path, "the path of the model or the name of the text field has %d bytes or more",
                        STORE_TEXT_MOST);
    TRY(buf_calloc(&memory, 1, sizeof(token_store_writer_t), "token store"));
    token_store_writer_t *w = memory;
    w->info = *info;
    status_t st = publish_begin(path, &w->file);
    if (st == ST_OK) st = begin(w, info);
    if (st != ST_OK) {
        token_store_abort(w);
        return st;
    }
    *out = w;
    return ST_OK;
}

static status_t put_narrow(token_store_writer_t *w, const int32_t *ids, int64_t n) {
    void *data = w->packed.data;
    status_t st = buf_reserve(&data, &w->packed.cap, n / 2 + 1, sizeof *w->packed.data, "token ids");
    w->packed.data = data;
    TRY(st);
    for (int64_t i = 0; i < n; i++) {
        if (ids[i] < 0 || ids[i] > UINT16_MAX)
            return st_raise(ST_INTERNAL, w->file.path, "token id %d does not fit 16 bits", ids[i]);
        uint16_t id = (uint16_t)ids[i];
        memcpy((char *)data + 2 * i, &id, sizeof id);
    }
    return put(w, STORE_TOKENS, data, 2 * n);
}

status_t token_store_append(token_store_writer_t *w, const int32_t *ids, int64_t n, const char *json, size_t bytes) {
    TRY(w->info.token_bytes == 2 ? put_narrow(w, ids, n) : put(w, STORE_TOKENS, ids, 4 * n));
    TRY(put(w, STORE_METADATA, json, (int64_t)bytes));
    w->tokens += n;
    w->metadata_bytes += (int64_t)bytes;
    w->documents++;
    TRY(put(w, STORE_OFFSETS, &w->tokens, sizeof w->tokens));
    return put(w, STORE_METADATA_OFFSETS, &w->metadata_bytes, sizeof w->metadata_bytes);
}

static void put_u64(unsigned char *at, uint64_t v) {
    for (int i = 0; i < 8; i++) at[i] = (unsigned char)(v >> (8 * i) & 0xff);
}

static status_t complete(token_store_writer_t *w) {
    uint64_t sum = 0;
    for (int i = 0; i < STORE_STREAMS; i++) {
        output_t *o = &w->out[i];
        const store_stream_t *s = &w->layout.stream[i];
        if (o->written + o->fill != s->bytes)
            return st_raise(ST_INTERNAL, w->file.path, "dataset '%s' is shorter than announced",
                            token_store_stream_names[i]);
        if (o->fill) TRY(flush_block(w, i));
        TRY(write_at(w, o->check, s->blocks * 8, s->check_at));
        sum = XXH64(o->check, (size_t)s->blocks * 8, sum);
    }
    unsigned char footer[STORE_FOOTER_BYTES];
    memcpy(footer, STORE_FOOTER_MAGIC, 8);
    put_u64(footer + 8, (uint64_t)w->layout.end);
    put_u64(footer + 16, (uint64_t)w->layout.head_bytes);
    put_u64(footer + 24, w->head_hash);
    put_u64(footer + 32, sum);
    return write_at(w, footer, STORE_FOOTER_BYTES, w->layout.end);
}

/* What is published has been read back: a store with a wrong checksum never gets its name. */
static status_t read_back(const token_store_writer_t *w) {
    token_store_t *s = NULL;
    status_t st = token_store_open(w->file.temp, &s);
    if (st == ST_OK) st = token_store_verify(s);
    token_store_close(s);
    if (st == ST_INPUT) st = st_context(ST_IO, "%s: what was written does not read back the same", w->file.path);
    return st;
}

status_t token_store_finish(token_store_writer_t *w) {
    status_t st = complete(w);
    if (st == ST_OK) st = read_back(w);
    if (st == ST_OK) st = publish_commit(&w->file); /* which ends the publication, also when it fails */
    token_store_abort(w);
    return st;
}

void token_store_abort(token_store_writer_t *w) {
    if (!w) return;
    if (w->file.file) publish_abort(&w->file);
    for (int i = 0; i < STORE_STREAMS; i++) {
        free(w->out[i].block);
        free(w->out[i].check);
    }
    i32buf_release(&w->packed);
    free(w);
}
