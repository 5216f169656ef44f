#include "data/gguf_write.h"
#include <stdbool.h>
#include <string.h>
#include "data/gguf_file.h"
#include "data/publish.h"
#include "kernels/buf.h"

enum { TYPE_F32 = 0, VERSION = 3, MOST_DIMS = 4 };

static status_t add_u32(strbuf_t *b, uint32_t v) {
    return strbuf_add(b, &v, sizeof v); /* little-endian file and machine */
}

static status_t add_u64(strbuf_t *b, uint64_t v) {
    return strbuf_add(b, &v, sizeof v);
}

static status_t add_string(strbuf_t *b, const char *s) {
    TRY(add_u64(b, strlen(s)));
    return strbuf_adds(b, s);
}

static status_t add_kv(strbuf_t *b, const gguf_out_kv_t *kv) {
    TRY(add_string(b, kv->key));
    TRY(add_u32(b, kv->text ? KV_STR : KV_F32));
    return kv->text ? add_string(b, kv->text) : strbuf_add(b, &kv->real, sizeof kv->real);
}

static status_t count_bytes(const char *path, const gguf_out_t *t, int64_t *out) {
    size_t n = strlen(t->name);
    int64_t bytes = sizeof(float);
    if (!n || n > GGUF_MAX_NAME)
        return st_raise(ST_INTERNAL, path, "tensor '%s' has a name of %zu bytes; 1 to %d can be written", t->name, n,
                        GGUF_MAX_NAME);
    bool good = t->rank >= 1 && t->rank <= MOST_DIMS;
    for (int i = 0; good && i < t->rank; i++) good = t->dim[i] > 0 && !__builtin_mul_overflow(bytes, t->dim[i], &bytes);
    if (!good || bytes > INT64_MAX - GGUF_ALIGNMENT)
        return st_raise(ST_INTERNAL, path, "tensor '%s' has a bad shape", t->name);
    *out = bytes;
    return ST_OK;
}

static int64_t padding(int64_t bytes) {
    return (GGUF_ALIGNMENT - bytes % GGUF_ALIGNMENT) % GGUF_ALIGNMENT;
}

static status_t add_tensor(strbuf_t *b, const char *path, const gguf_out_t *t, int64_t *offset) {
    int64_t bytes;
    TRY(count_bytes(path, t, &bytes));
    TRY(add_string(b, t->name));
    TRY(add_u32(b, (uint32_t)t->rank));
    for (int i = t->rank - 1; i >= 0; i--) TRY(add_u64(b, (uint64_t)t->dim[i]));
    TRY(add_u32(b, TYPE_F32));
    TRY(add_u64(b, (uint64_t)*offset));
    if (__builtin_add_overflow(*offset, bytes + padding(bytes), offset))
        return st_raise(ST_INTERNAL, path, "the tensors together are too large");
    return ST_OK;
}

static status_t build_header(strbuf_t *b, const char *path, const gguf_out_kv_t *kv, int64_t n_kv, const gguf_out_t *t,
                             int64_t n) {
    int64_t offset = 0;
    TRY(strbuf_adds(b, "GGUF"));
    TRY(add_u32(b, VERSION));
    TRY(add_u64(b, (uint64_t)n));
    TRY(add_u64(b, (uint64_t)n_kv));
    for (int64_t i = 0; i < n_kv; i++) TRY(add_kv(b, &kv[i]));
    for (int64_t i = 0; i < n; i++) TRY(add_tensor(b, path, &t[i], &offset));
    static const char zeros[GGUF_ALIGNMENT];
    return strbuf_add(b, zeros, (size_t)padding((int64_t)b->len));
}

/* The padding belongs to the last tensor, too. */
static status_t write_tensor(publish_t *out, const gguf_out_t *t) {
    static const char zeros[GGUF_ALIGNMENT];
    int64_t bytes;
    TRY(count_bytes(out->path, t, &bytes));
    TRY(publish_write(out, t->data, (size_t)bytes));
    return publish_write(out, zeros, (size_t)padding(bytes));
}

static status_t write_file(const char *path, const strbuf_t *header, const gguf_out_t *t, int64_t n) {
    publish_t out = {0};
    TRY(publish_begin(path, &out));
    status_t st = publish_write(&out, header->data, header->len);
    for (int64_t i = 0; i < n && st == ST_OK; i++) st = write_tensor(&out, &t[i]);
    if (st == ST_OK) return publish_commit(&out);
    publish_abort(&out);
    return st;
}

status_t gguf_write(const char *path, const gguf_out_kv_t *kv, int64_t n_kv, const gguf_out_t *t, int64_t n) {
    strbuf_t header = {0};
    status_t st = build_header(&header, path, kv, n_kv, t, n);
    if (st == ST_OK) st = write_file(path, &header, t, n);
    strbuf_release(&header);
    return st;
}
