/* The container: header, tensor table and the layout rules of formats.md 2.2. */
#include "data/gguf.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/gguf_file.h"
#include "kernels/buf.h"

enum { MAX_NAME = 63, MAX_DIMS = 4, DEFAULT_ALIGNMENT = 32 };

/* id, name, elements in a block, bytes in a block */
static const struct {
    int32_t id;
    const char *name;
    int block, bytes;
    store_t store;
} types[] = {
    {0, "F32", 1, 4, STORE_F32},           {1, "F16", 1, 2, STORE_F16},           {2, "Q4_0", 32, 18, STORE_Q4_0},
    {3, "Q4_1", 32, 20, STORE_Q4_1},       {6, "Q5_0", 32, 22, STORE_Q5_0},       {7, "Q5_1", 32, 24, STORE_Q5_1},
    {8, "Q8_0", 32, 34, STORE_Q8_0},       {9, "Q8_1", 32, 36, STORE_OTHER},      {10, "Q2_K", 256, 84, STORE_Q2_K},
    {11, "Q3_K", 256, 110, STORE_Q3_K},    {12, "Q4_K", 256, 144, STORE_Q4_K},    {13, "Q5_K", 256, 176, STORE_Q5_K},
    {14, "Q6_K", 256, 210, STORE_Q6_K},    {15, "Q8_K", 256, 292, STORE_OTHER},   {16, "IQ2_XXS", 256, 66, STORE_OTHER},
    {17, "IQ2_XS", 256, 74, STORE_OTHER},  {18, "IQ3_XXS", 256, 98, STORE_OTHER}, {19, "IQ1_S", 256, 50, STORE_OTHER},
    {20, "IQ4_NL", 32, 18, STORE_OTHER},   {21, "IQ3_S", 256, 110, STORE_OTHER},  {22, "IQ2_S", 256, 82, STORE_OTHER},
    {23, "IQ4_XS", 256, 136, STORE_OTHER}, {24, "I8", 1, 1, STORE_OTHER},         {25, "I16", 1, 2, STORE_OTHER},
    {26, "I32", 1, 4, STORE_OTHER},        {27, "I64", 1, 8, STORE_OTHER},        {28, "F64", 1, 8, STORE_F64},
    {29, "IQ1_M", 256, 56, STORE_OTHER},   {30, "BF16", 1, 2, STORE_BF16},        {34, "TQ1_0", 256, 54, STORE_OTHER},
    {35, "TQ2_0", 256, 66, STORE_OTHER},   {39, "MXFP4", 32, 17, STORE_OTHER},
};

status_t gguf_bad(const gguf_t *g, const char *where, const char *what) {
    return st_raise(ST_INPUT, g->path, "%s: %s; the file is damaged or not a GGUF file of version 2 or 3", where, what);
}

status_t gguf_take(gguf_t *g, const char *where, void *out, size_t n) {
    if (n > g->map.size - g->pos) return gguf_bad(g, where, "ends beyond the end of the file");
    if (n) memcpy(out, g->map.data + g->pos, n);
    g->pos += n;
    return ST_OK;
}

status_t gguf_take_name(gguf_t *g, const char *where, size_t most, char **out) {
    uint64_t n = 0;
    TRY(gguf_take(g, where, &n, sizeof n));
    if (n == 0) return gguf_bad(g, where, "name is empty");
    if (n > most) return gguf_bad(g, where, "name is too long");
    if (n > g->map.size - g->pos) return gguf_bad(g, where, "name ends beyond the end of the file");
    const uint8_t *s = g->map.data + g->pos;
    if (memchr(s, 0, n)) return gguf_bad(g, where, "name holds a NUL byte");
    if (u8_check(s, n)) return gguf_bad(g, where, "name is not UTF-8");
    g->pos += n;
    *out = buf_strndup((const char *)s, n);
    return *out ? ST_OK : ST_NOMEM;
}

static status_t parse_shape(gguf_t *g, tensor_info_t *t, int64_t *fastest) {
    uint32_t dims = 0;
    int64_t ne[MAX_DIMS] = {1, 1, 1, 1}, product = 1;
    TRY(gguf_take(g, t->name, &dims, sizeof dims));
    if (dims > MAX_DIMS) return gguf_bad(g, t->name, "has more than 4 dimensions");
    TRY(gguf_take(g, t->name, ne, dims * sizeof ne[0]));
    t->rank = (int)dims;
    for (uint32_t i = 0; i < dims; i++) {
        if (ne[i] < 0) return gguf_bad(g, t->name, "has a negative dimension");
        /* zeros are left out, so that the product is bounded in whatever order it is taken */
        if (ne[i] && __builtin_mul_overflow(product, ne[i], &product))
            return gguf_bad(g, t->name, "size overflows 64 bits");
        t->dim[dims - 1 - i] = ne[i];
    }
    *fastest = ne[0];
    return ST_OK;
}

static status_t parse_type(gguf_t *g, tensor_info_t *t, int64_t fastest) {
    int32_t id = 0;
    TRY(gguf_take(g, t->name, &id, sizeof id));
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (types[i].id != id) continue;
        t->store = types[i].store;
        t->dtype = types[i].name;
        if (fastest % types[i].block) return gguf_bad(g, t->name, "rows are not whole blocks of its type");
        int64_t blocks = tensor_info_count(t) / types[i].block, bytes;
        if (__builtin_mul_overflow(blocks, (int64_t)types[i].bytes, &bytes))
            return gguf_bad(g, t->name, "size overflows 64 bits");
        t->bytes = (size_t)bytes;
        return ST_OK;
    }
    return st_raise(ST_INPUT, g->path, "%s: tensor type %d is unknown; convert the file to F16, Q8_0 or a K-quant",
                    t->name, id);
}

/* Reads one table row. `*end` is where the tensors before it end in the data section, padding included. */
static status_t parse_tensor(gguf_t *g, tensor_info_t *t, uint64_t alignment, uint64_t *end) {
    char where[48], *name = NULL;
    snprintf(where, sizeof where, "tensor %lld of the table", (long long)g->tensor_count);
    TRY(gguf_take_name(g, where, MAX_NAME, &name));
    t->name = name;
    t->file = g->path;
    g->tensor_count++; /* from here on gguf_close frees the name */
    if (name_index_add(&g->tensor_index, name, g->tensor_count - 1) >= 0)
        return gguf_bad(g, name, "appears twice in the tensor table");
    int64_t fastest = 0;
    uint64_t offset = 0;
    TRY(parse_shape(g, t, &fastest));
    TRY(parse_type(g, t, fastest));
    TRY(gguf_take(g, name, &offset, sizeof offset));
    if (offset != *end) return gguf_bad(g, name, "offset does not continue the tensor before it");
    t->data = (const void *)(uintptr_t)offset; /* made a pointer once the data section is known to hold it */
    uint64_t padded;
    if (__builtin_add_overflow(offset, (uint64_t)t->bytes, &padded) ||
        __builtin_add_overflow(padded, alignment - 1, &padded))
        return gguf_bad(g, name, "offset overflows 64 bits");
    *end = padded & ~(alignment - 1);
    return ST_OK;
}

static status_t read_alignment(const gguf_t *g, uint64_t *out) {
    static const char key[] = "general.alignment";
    *out = DEFAULT_ALIGNMENT;
    int64_t i = name_index_find(&g->kv_index, key), value = 0;
    if (i < 0) return ST_OK;
    if (g->kv[i].type != KV_U32 || g->kv[i].is_array) return gguf_bad(g, key, "is not an unsigned 32-bit integer");
    gguf_get_i64(g, key, &value);
    if (value <= 0 || (value & (value - 1))) return gguf_bad(g, key, "is not a power of two");
    *out = (uint64_t)value;
    return ST_OK;
}

/* A file without tensors (metadata only) may end before the padding. */
static status_t place_tensors(gguf_t *g, uint64_t alignment, uint64_t data_bytes) {
    uint64_t start = (g->pos + alignment - 1) & ~(alignment - 1);
    if (g->tensor_count == 0) return g->map.size <= start ? ST_OK : gguf_bad(g, "data", "belongs to no tensor");
    if (start > g->map.size || data_bytes > g->map.size - start) {
        const tensor_info_t *last = &g->tensor[g->tensor_count - 1];
        for (int64_t i = 0; i < g->tensor_count; i++) {
            const tensor_info_t *t = &g->tensor[i];
            uint64_t begin = (uint64_t)(uintptr_t)t->data;
            if (start <= g->map.size && begin + t->bytes <= g->map.size - start) continue;
            return gguf_bad(g, t->name, "lies beyond the end of the file");
        }
        return gguf_bad(g, last->name, "is not followed by its padding");
    }
    if (data_bytes != g->map.size - start) return gguf_bad(g, "data", "has bytes that belong to no tensor");
    for (int64_t i = 0; i < g->tensor_count; i++)
        g->tensor[i].data = g->map.data + start + (uintptr_t)g->tensor[i].data;
    return ST_OK;
}

static status_t load(gguf_t *g) {
    char magic[4] = {0};
    uint32_t version = 0;
    int64_t tensors = 0, pairs = 0;
    uint64_t alignment = DEFAULT_ALIGNMENT, data_bytes = 0;
    TRY(mapping_open(g->path, &g->map));
    TRY(gguf_take(g, "magic", magic, sizeof magic));
    if (memcmp(magic, "GGUF", sizeof magic) != 0) return gguf_bad(g, "magic", "is not 'GGUF'");
    TRY(gguf_take(g, "version", &version, sizeof version));
    if ((version & 0xffff) == 0) return gguf_bad(g, "version", "is of the wrong endianness");
    if (version != 2 && version != 3) return gguf_bad(g, "version", "is neither 2 nor 3");
    TRY(gguf_take(g, "header", &tensors, sizeof tensors));
    TRY(gguf_take(g, "header", &pairs, sizeof pairs));
    TRY(gguf_parse_kv(g, pairs));
    TRY(read_alignment(g, &alignment));

    const size_t least = 8 + 1 + 4 + 4 + 8; /* a name of one byte and no dimensions */
    if (tensors < 0) return gguf_bad(g, "header", "number of tensors is negative");
    if ((uint64_t)tensors > (g->map.size - g->pos) / least)
        return gguf_bad(g, "header", "claims more tensors than the file can hold");
    void *table = NULL;
    TRY(buf_calloc(&table, tensors, sizeof(tensor_info_t), "tensor table"));
    g->tensor = table;
    TRY(name_index_create(tensors, &g->tensor_index));
    for (int64_t i = 0; i < tensors; i++) TRY(parse_tensor(g, &g->tensor[i], alignment, &data_bytes));
    return place_tensors(g, alignment, data_bytes);
}

status_t gguf_open(const char *path, gguf_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(gguf_t), "GGUF handle"));
    gguf_t *g = p;
    g->path = buf_strdup(path);
    status_t st = g->path ? load(g) : ST_NOMEM;
    if (st == ST_OK)
        *out = g;
    else
        gguf_close(g);
    return st;
}

void gguf_close(gguf_t *g) {
    if (!g) return;
    for (int64_t i = 0; i < g->kv_count; i++) {
        free(g->kv[i].key);
        free(g->kv[i].string);
    }
    for (int64_t i = 0; i < g->tensor_count; i++) free((void *)(uintptr_t)g->tensor[i].name);
    free(g->kv);
    free(g->tensor);
    name_index_release(&g->kv_index);
    name_index_release(&g->tensor_index);
    mapping_close(&g->map);
    free(g->path);
    free(g);
}

const char *gguf_path(const gguf_t *g) {
    return g->path;
}

int64_t gguf_tensor_count(const gguf_t *g) {
    return g->tensor_count;
}

const tensor_info_t *gguf_tensor_at(const gguf_t *g, int64_t i) {
    return &g->tensor[i];
}
