#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/half.h"
#include "data/name_index.h"
#include "data/publish.h"
#include "data/safetensors.h"
#include "kernels/buf.h"

enum { CHUNK = 16384 };

typedef struct piece {
    const safetensors_out_t *t;
    int64_t count;
} piece_t;

static size_t element_bytes(store_t store) {
    return store == STORE_F32 ? 4 : 2;
}

/* The format's dtype order, descending, then by name: every tensor is then aligned to its element. */
static int dtype_order(store_t store) {
    return store == STORE_F32 ? 0 : store == STORE_BF16 ? 1 : 2;
}

static int by_layout(const void *a, const void *b) {
    const safetensors_out_t *x = ((const piece_t *)a)->t, *y = ((const piece_t *)b)->t;
    int order = dtype_order(x->store) - dtype_order(y->store);
    return order ? order : strcmp(x->name, y->name);
}

static status_t check(const char *path, const safetensors_out_t *t, int64_t *count) {
    int64_t product = 1;
    if (t->store != STORE_F32 && t->store != STORE_F16 && t->store != STORE_BF16)
        return st_raise(ST_INTERNAL, path, "tensor '%s' is to be written in a type other than F32, F16 and BF16",
                        t->name);
    if (t->rank < 0 || t->rank > 8) return st_raise(ST_INTERNAL, path, "tensor '%s' has a bad rank", t->name);
    for (int i = 0; i < t->rank; i++)
        if (t->dim[i] < 0 || __builtin_mul_overflow(product, t->dim[i], &product))
            return st_raise(ST_INTERNAL, path, "tensor '%s' has a bad shape", t->name);
    if (product > INT64_MAX / 8) return st_raise(ST_INTERNAL, path, "tensor '%s' is too large", t->name);
    *count = product;
    return ST_OK;
}

static status_t add_quoted(strbuf_t *b, const char *path, const char *name) {
    json_t *string = json_string(name);
    char *quoted = string ? json_dumps(string, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    json_decref(string);
    if (!quoted) return st_raise(ST_INTERNAL, path, "the tensor name '%s' is not UTF-8", name);
    status_t st = strbuf_adds(b, quoted);
    free(quoted);
    return st;
}

static status_t add_entry(strbuf_t *b, const char *path, const piece_t *p, int64_t *offset) {
    const safetensors_out_t *t = p->t;
    int64_t end;
    if (__builtin_add_overflow(*offset, p->count * (int64_t)element_bytes(t->store), &end))
        return st_raise(ST_INTERNAL, path, "the tensors together are too large");
    TRY(strbuf_adds(b, ","));
    TRY(add_quoted(b, path, t->name));
    TRY(strbuf_addf(b, ":{\"dtype\":\"%s\",\"shape\":[",
                    t->store == STORE_F32    ? "F32"
                    : t->store == STORE_BF16 ? "BF16"
                                             : "F16"));
    for (int i = 0; i < t->rank; i++) TRY(strbuf_addf(b, i ? ",%" PRId64 : "%" PRId64, t->dim[i]));
    TRY(strbuf_addf(b, "],\"data_offsets\":[%" PRId64 ",%" PRId64 "]}", *offset, end));
    *offset = end;
    return ST_OK;
}

/* The length word and the JSON, padded so that the data starts at a multiple of 8. */
static status_t build_header(strbuf_t *b, const char *path, const piece_t *piece, int64_t n) {
    int64_t offset = 0;
    uint64_t length = 0;
    TRY(strbuf_add(b, &length, sizeof length));
    TRY(strbuf_adds(b, "{\"__metadata__\":{\"format\":\"pt\"}"));
    for (int64_t i = 0; i < n; i++) TRY(add_entry(b, path, &piece[i], &offset));
    TRY(strbuf_adds(b, "}"));
    while (b->len % 8) TRY(strbuf_adds(b, " "));
    length = b->len - sizeof length;
    memcpy(b->data, &length, sizeof length);
    return ST_OK;
}

static status_t write_data(publish_t *out, const piece_t *p) {
    const safetensors_out_t *t = p->t;
    if (t->store == STORE_F32) return publish_write(out, t->data, (size_t)p->count * sizeof *t->data);
    uint16_t chunk[CHUNK];
    for (int64_t first = 0; first < p->count; first += CHUNK) {
        int64_t n = p->count - first < CHUNK ? p->count - first : CHUNK;
        for (int64_t i = 0; i < n; i++)
            chunk[i] = t->store == STORE_F16 ? f16_from_f32(t->data[first + i]) : bf16_from_f32(t->data[first + i]);
        TRY(publish_write(out, chunk, (size_t)n * sizeof chunk[0]));
    }
    return ST_OK;
}

static status_t write_file(const char *path, const strbuf_t *header, const piece_t *piece, int64_t n) {
    publish_t out = {0};
    TRY(publish_begin(path, &out));
    status_t st = publish_write(&out, header->data, header->len);
    for (int64_t i = 0; i < n && st == ST_OK; i++) st = write_data(&out, &piece[i]);
    if (st == ST_OK) return publish_commit(&out);
    publish_abort(&out);
    return st;
}

status_t safetensors_write(const char *path, const safetensors_out_t *t, int64_t n) {
    strbuf_t header = {0};
    name_index_t taken = {0};
    void *table = NULL;
    TRY(buf_calloc(&table, n, sizeof(piece_t), "tensor table"));
    piece_t *piece = table;
    status_t st = ST_OK;
    TRY_GOTO(name_index_create(n + 1, &taken), out);
    name_index_add(&taken, "__metadata__", n);
    for (int64_t i = 0; i < n; i++) {
        piece[i].t = &t[i];
        TRY_GOTO(check(path, &t[i], &piece[i].count), out);
        if (name_index_add(&taken, t[i].name, i) != -1) {
            st = st_raise(ST_INTERNAL, path, "two tensors have the name '%s'", t[i].name);
            goto out;
        }
    }
    qsort(piece, (size_t)n, sizeof *piece, by_layout);
    TRY_GOTO(build_header(&header, path, piece, n), out);
    st = write_file(path, &header, piece, n);
out:
    name_index_release(&taken);
    strbuf_release(&header);
    free(table);
    return st;
}
