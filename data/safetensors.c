#include "data/safetensors.h"
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/mapping.h"
#include "kernels/buf.h"

enum { MAX_HEADER = 100000000, MAX_RANK = 8 };

/* Every dtype the format defines, with its bits; those we cannot convert are still checked and listed. */
static const struct {
    const char *name;
    int bits;
    store_t store;
} dtypes[] = {
    {"BOOL", 8, STORE_OTHER},        {"F4", 4, STORE_OTHER},          {"F6_E2M3", 6, STORE_OTHER},
    {"F6_E3M2", 6, STORE_OTHER},     {"U8", 8, STORE_OTHER},          {"I8", 8, STORE_OTHER},
    {"F8_E5M2", 8, STORE_OTHER},     {"F8_E4M3", 8, STORE_OTHER},     {"F8_E8M0", 8, STORE_OTHER},
    {"F8_E4M3FNUZ", 8, STORE_OTHER}, {"F8_E5M2FNUZ", 8, STORE_OTHER}, {"I16", 16, STORE_OTHER},
    {"U16", 16, STORE_OTHER},        {"F16", 16, STORE_F16},          {"BF16", 16, STORE_BF16},
    {"I32", 32, STORE_OTHER},        {"U32", 32, STORE_OTHER},        {"F32", 32, STORE_F32},
    {"C64", 64, STORE_OTHER},        {"F64", 64, STORE_F64},          {"I64", 64, STORE_OTHER},
    {"U64", 64, STORE_OTHER},
};

typedef struct entry {
    tensor_info_t info;
    uint64_t begin, end; /* relative to the byte buffer */
} entry_t;

struct safetensors {
    char *path;
    mapping_t map;
    json_t *header; /* owns the tensor names */
    entry_t *entry;
    int64_t count;
};

static status_t bad(const safetensors_t *s, const char *tensor, const char *what) {
    if (!tensor) return st_raise(ST_INPUT, s->path, "%s; the file is damaged or not a safetensors file", what);
    return st_raise(ST_INPUT, s->path, "tensor '%s': %s; the file is damaged", tensor, what);
}

static status_t parse_header(safetensors_t *s, uint64_t *header_bytes) {
    uint64_t n = 0;
    if (s->map.size < 8) return bad(s, NULL, "is shorter than 8 bytes");
    memcpy(&n, s->map.data, 8);
    if (n > MAX_HEADER) return bad(s, NULL, "header length is above 100000000");
    if (n == 0) return bad(s, NULL, "header length is zero");
    if (n > s->map.size - 8) return bad(s, NULL, "header length is beyond the end of the file");
    const char *text = (const char *)s->map.data + 8;
    size_t end = n;
    while (end > 0 && text[end - 1] == ' ') end--;
    if (u8_check((const uint8_t *)text, n)) return bad(s, NULL, "header is not UTF-8");
    if (text[0] != '{') return bad(s, NULL, "header does not start with '{'");
    if (text[end - 1] != '}') return bad(s, NULL, "header does not end with '}' and spaces");
    json_error_t error;
    s->header = json_loadb(text, end, JSON_REJECT_DUPLICATES, &error);
    if (!s->header)
        return st_raise(ST_INPUT, s->path, "header: %s at byte %d; the file is damaged", error.text, error.position);
    *header_bytes = n;
    return ST_OK;
}

static status_t check_metadata(const safetensors_t *s, json_t *metadata) {
    const char *key;
    json_t *value;
    if (!json_is_object(metadata)) return bad(s, NULL, "__metadata__ is not an object");
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return st_raise(ST_INPUT, s->path, "__metadata__: value of '%s' is not a string; the file is damaged", key);
    }
    return ST_OK;
}

static status_t parse_shape(const safetensors_t *s, json_t *shape, tensor_info_t *t, int64_t *count) {
    if (!json_is_array(shape)) return bad(s, t->name, "'shape' is not an array");
    if (json_array_size(shape) > MAX_RANK) return bad(s, t->name, "has more than 8 dimensions");
    int64_t product = 1;
    t->rank = (int)json_array_size(shape);
    for (int i = 0; i < t->rank; i++) {
        json_t *dim = json_array_get(shape, (size_t)i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return bad(s, t->name, "'shape' holds something that is not a size");
        t->dim[i] = json_integer_value(dim);
        if (__builtin_mul_overflow(product, t->dim[i], &product)) return bad(s, t->name, "size overflows 64 bits");
    }
    *count = product;
    return ST_OK;
}

static status_t parse_offsets(const safetensors_t *s, json_t *offsets, entry_t *e) {
    if (json_array_size(offsets) != 2) return bad(s, e->info.name, "'data_offsets' is not a pair"); /* 0 if no array */
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return bad(s, e->info.name, "'data_offsets' is not an ascending pair of offsets");
    e->begin = (uint64_t)json_integer_value(begin);
    e->end = (uint64_t)json_integer_value(end);
    return ST_OK;
}

static status_t parse_entry(const safetensors_t *s, const char *name, json_t *value, entry_t *e) {
    tensor_info_t *t = &e->info;
    t->name = name;
    t->file = s->path;
    if (!json_is_object(value)) return bad(s, name, "its header entry is not an object");
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (!dtype) return bad(s, name, "has no 'dtype'");
    int bits = 0;
    for (size_t i = 0; i < sizeof dtypes / sizeof dtypes[0]; i++)
        if (strcmp(dtype, dtypes[i].name) == 0) {
            bits = dtypes[i].bits;
            t->store = dtypes[i].store;
            t->dtype = dtypes[i].name;
        }
    if (!bits) return st_raise(ST_INPUT, s->path, "tensor '%s': unknown dtype '%s'; the file is damaged", name, dtype);
    int64_t count = 0, total;
    TRY(parse_shape(s, json_object_get(value, "shape"), t, &count));
    TRY(parse_offsets(s, json_object_get(value, "data_offsets"), e));
    if (__builtin_mul_overflow(count, (int64_t)bits, &total)) return bad(s, name, "size overflows 64 bits");
    if (total % 8) return bad(s, name, "does not fill whole bytes");
    if (e->end - e->begin != (uint64_t)total / 8) return bad(s, name, "shape and data_offsets disagree");
    t->bytes = (size_t)total / 8;
    return ST_OK;
}

static int by_offset(const void *a, const void *b) {
    const entry_t *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end) return x->end < y->end ? -1 : 1;
    return strcmp(x->info.name, y->info.name);
}

/* Tensors must tile the buffer: no hole, no overlap, nothing behind the last. */
static status_t place(safetensors_t *s, const uint8_t *buffer, uint64_t size) {
    uint64_t at = 0;
    if (s->count) qsort(s->entry, (size_t)s->count, sizeof *s->entry, by_offset);
    for (int64_t i = 0; i < s->count; i++) {
        entry_t *e = &s->entry[i];
        if (e->begin != at) return bad(s, e->info.name, "leaves a hole before it or overlaps another tensor");
        if (e->end > size) return bad(s, e->info.name, "lies beyond the end of the file");
        e->info.data = buffer + e->begin;
        at = e->end;
    }
    if (at != size) return bad(s, NULL, "has bytes that belong to no tensor");
    return ST_OK;
}

static status_t load(safetensors_t *s) {
    uint64_t header_bytes = 0;
    TRY(mapping_open(s->path, &s->map));
    TRY(parse_header(s, &header_bytes));
    if (!json_is_object(s->header)) return bad(s, NULL, "header is not an object");
    void *entries = NULL;
    TRY(buf_calloc(&entries, (int64_t)json_object_size(s->header), sizeof *s->entry, "tensor table"));
    s->entry = entries;
    const char *name;
    json_t *value;
    json_object_foreach(s->header, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            TRY(check_metadata(s, value));
        } else {
            TRY(parse_entry(s, name, value, &s->entry[s->count]));
            s->count++;
        }
    }
    return place(s, s->map.data + 8 + header_bytes, s->map.size - 8 - header_bytes);
}

status_t safetensors_open(const char *path, safetensors_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(safetensors_t), "safetensors handle"));
    safetensors_t *s = p;
    s->path = buf_strdup(path);
    status_t st = s->path ? load(s) : ST_NOMEM;
    if (st == ST_OK)
        *out = s;
    else
        safetensors_close(s);
    return st;
}

void safetensors_close(safetensors_t *s) {
    if (!s) return;
    json_decref(s->header);
    free(s->entry);
    mapping_close(&s->map);
    free(s->path);
    free(s);
}

int64_t safetensors_count(const safetensors_t *s) {
    return s->count;
}

const tensor_info_t *safetensors_at(const safetensors_t *s, int64_t i) {
    return &s->entry[i].info;
}
