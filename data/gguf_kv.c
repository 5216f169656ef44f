/* The metadata: parsing and typed access. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/gguf_file.h"
#include "kernels/buf.h"

enum { MAX_KEY = 65535, SHOWN_ITEMS = 8, SHOWN_BYTES = 120 };
static const uint64_t MAX_STRING = (uint64_t)1 << 30, MAX_ARRAY = (uint64_t)1 << 30;

static const uint8_t type_bytes[KV_TYPE_COUNT] = {
#define KV_BYTES(name, id, bytes) [name] = bytes,
    KV_TYPE_LIST(KV_BYTES)
#undef KV_BYTES
};

static status_t skip(gguf_t *g, const char *where, uint64_t n) {
    if (n > g->map.size - g->pos) return gguf_bad(g, where, "ends beyond the end of the file");
    g->pos += n;
    return ST_OK;
}

static status_t skip_string(gguf_t *g, const char *where) {
    uint64_t n = 0;
    TRY(gguf_take(g, where, &n, sizeof n));
    if (n > MAX_STRING) return gguf_bad(g, where, "string is longer than 1 GiB");
    return skip(g, where, n);
}

static status_t take_type(gguf_t *g, const char *where, kv_type_t *out) {
    int32_t type = 0;
    TRY(gguf_take(g, where, &type, sizeof type));
    if (type < 0 || type >= KV_TYPE_COUNT) return gguf_bad(g, where, "has an unknown value type");
    *out = (kv_type_t)type;
    return ST_OK;
}

static status_t parse_array_head(gguf_t *g, kv_t *kv) {
    uint64_t n = 0;
    TRY(take_type(g, kv->key, &kv->type));
    if (kv->type == KV_ARR) return gguf_bad(g, kv->key, "is an array of arrays");
    TRY(gguf_take(g, kv->key, &n, sizeof n));
    if (n > MAX_ARRAY) return gguf_bad(g, kv->key, "has more than 2^30 elements");
    kv->is_array = true;
    kv->count = (int64_t)n;
    return ST_OK;
}

static status_t parse_strings(gguf_t *g, kv_t *kv) {
    if ((uint64_t)kv->count > (g->map.size - g->pos) / sizeof(uint64_t))
        return gguf_bad(g, kv->key, "ends beyond the end of the file");
    void *starts = NULL;
    TRY(buf_calloc(&starts, kv->count, sizeof(uint64_t), "string table"));
    kv->string = starts;
    size_t first = g->pos;
    for (int64_t i = 0; i < kv->count; i++) {
        kv->string[i] = g->pos - first;
        TRY(skip_string(g, kv->key));
    }
    return ST_OK;
}

static status_t parse_pair(gguf_t *g, kv_t *kv) {
    char where[48];
    snprintf(where, sizeof where, "key %lld of the metadata", (long long)g->kv_count);
    TRY(gguf_take_name(g, where, MAX_KEY, &kv->key));
    g->kv_count++; /* from here on gguf_close frees it */
    if (name_index_add(&g->kv_index, kv->key, g->kv_count - 1) >= 0)
        return gguf_bad(g, kv->key, "appears twice in the metadata");
    TRY(take_type(g, kv->key, &kv->type));
    kv->count = 1;
    if (kv->type == KV_ARR) TRY(parse_array_head(g, kv));
    kv->at = g->map.data + g->pos;
    if (kv->type == KV_STR) return parse_strings(g, kv);
    TRY(skip(g, kv->key, (uint64_t)kv->count * type_bytes[kv->type]));
    for (int64_t i = 0; kv->type == KV_BOOL && i < kv->count; i++)
        if (kv->at[i] > 1) return gguf_bad(g, kv->key, "holds a bool that is neither 0 nor 1");
    return ST_OK;
}

status_t gguf_parse_kv(gguf_t *g, int64_t n) {
    const size_t least = 8 + 1 + 4 + 1; /* a key of one byte and a value of one */
    if (n < 0) return gguf_bad(g, "header", "number of metadata pairs is negative");
    if ((uint64_t)n > (g->map.size - g->pos) / least)
        return gguf_bad(g, "header", "claims more metadata than the file can hold");
    void *table = NULL;
    TRY(buf_calloc(&table, n, sizeof(kv_t), "metadata table"));
    g->kv = table;
    TRY(name_index_create(n, &g->kv_index));
    for (int64_t i = 0; i < n; i++) TRY(parse_pair(g, &g->kv[i]));
    return ST_OK;
}

static const kv_t *find(const gguf_t *g, const char *key, bool is_array) {
    int64_t i = name_index_find(&g->kv_index, key);
    return i >= 0 && g->kv[i].is_array == is_array ? &g->kv[i] : NULL;
}

static int64_t signed_at(const uint8_t *p, size_t bytes) {
    int8_t a;
    int16_t b;
    int32_t c;
    int64_t d;
    switch (bytes) {
    case 1:
        return memcpy(&a, p, sizeof a), a;
    case 2:
        return memcpy(&b, p, sizeof b), b;
    case 4:
        return memcpy(&c, p, sizeof c), c;
    default:
        return memcpy(&d, p, sizeof d), d;
    }
}

static bool integer_at(const kv_t *kv, int64_t i, int64_t *out) {
    if (!kv || i < 0 || i >= kv->count) return false;
    size_t bytes = type_bytes[kv->type];
    uint64_t u = 0;
    switch (kv->type) {
    case KV_I8:
    case KV_I16:
    case KV_I32:
    case KV_I64:
        *out = signed_at(kv->at + (size_t)i * bytes, bytes);
        return true;
    case KV_U8:
    case KV_U16:
    case KV_U32:
    case KV_U64:
        memcpy(&u, kv->at + (size_t)i * bytes, bytes); /* little-endian file and machine */
        if (u > INT64_MAX) return false;
        *out = (int64_t)u;
        return true;
    default:
        return false;
    }
}

static bool number_at(const kv_t *kv, int64_t i, double *out) {
    if (!kv || i < 0 || i >= kv->count) return false;
    float f;
    uint64_t u;
    int64_t n;
    if (kv->type == KV_F32) {
        memcpy(&f, kv->at + (size_t)i * sizeof f, sizeof f);
        *out = (double)f;
    } else if (kv->type == KV_F64) {
        memcpy(out, kv->at + (size_t)i * sizeof *out, sizeof *out);
    } else if (kv->type == KV_U64) {
        memcpy(&u, kv->at + (size_t)i * sizeof u, sizeof u);
        *out = (double)u;
    } else if (integer_at(kv, i, &n)) {
        *out = (double)n;
    } else {
        return false;
    }
    return true;
}

static bool string_at(const kv_t *kv, int64_t i, const char **s, size_t *n) {
    if (!kv || kv->type != KV_STR || i < 0 || i >= kv->count) return false;
    const uint8_t *p = kv->at + kv->string[i];
    uint64_t length;
    memcpy(&length, p, sizeof length);
    *s = (const char *)p + sizeof length;
    *n = length;
    return true;
}

bool gguf_has(const gguf_t *g, const char *key) {
    return name_index_find(&g->kv_index, key) >= 0;
}

bool gguf_get_i64(const gguf_t *g, const char *key, int64_t *out) {
    return integer_at(find(g, key, false), 0, out);
}

bool gguf_get_f64(const gguf_t *g, const char *key, double *out) {
    return number_at(find(g, key, false), 0, out);
}

bool gguf_get_bool(const gguf_t *g, const char *key, bool *out) {
    const kv_t *kv = find(g, key, false);
    if (!kv || kv->type != KV_BOOL) return false;
    *out = kv->at[0];
    return true;
}

bool gguf_get_str(const gguf_t *g, const char *key, const char **s, size_t *n) {
    return string_at(find(g, key, false), 0, s, n);
}

int64_t gguf_arr_count(const gguf_t *g, const char *key) {
    const kv_t *kv = find(g, key, true);
    return kv ? kv->count : -1;
}

bool gguf_arr_str(const gguf_t *g, const char *key, int64_t i, const char **s, size_t *n) {
    return string_at(find(g, key, true), i, s, n);
}

bool gguf_arr_i64(const gguf_t *g, const char *key, int64_t i, int64_t *out) {
    return integer_at(find(g, key, true), i, out);
}

bool gguf_arr_f64(const gguf_t *g, const char *key, int64_t i, double *out) {
    return number_at(find(g, key, true), i, out);
}

int64_t gguf_kv_count(const gguf_t *g) {
    return g->kv_count;
}

const char *gguf_kv_key(const gguf_t *g, int64_t i) {
    return g->kv[i].key;
}

/* At most SHOWN_BYTES of a string, in quotes, everything but plain ASCII and valid UTF-8 escaped. */
static status_t text_of_string(const char *s, size_t n, strbuf_t *out) {
    TRY(strbuf_adds(out, "\""));
    const uint8_t *p = (const uint8_t *)s, *end = p + (n < SHOWN_BYTES ? n : SHOWN_BYTES);
    while (p < end) {
        ucs4_t c;
        int used = u8_mbtoucr(&c, p, (size_t)((const uint8_t *)s + n - p));
        if (used < 0 || c < 0x20 || c == 0x7f) {
            TRY(strbuf_addf(out, "\\x%02x", *p));
            used = 1;
        } else {
            TRY(strbuf_addf(out, c == '"' || c == '\\' ? "\\%.*s" : "%.*s", used, (const char *)p));
        }
        p += used;
    }
    TRY(strbuf_adds(out, n > SHOWN_BYTES ? "\"..." : "\""));
    return ST_OK;
}

static status_t text_of_item(const kv_t *kv, int64_t i, strbuf_t *out) {
    const char *s;
    size_t n;
    int64_t integer;
    double number;
    if (kv->type == KV_BOOL) return strbuf_adds(out, kv->at[i] ? "true" : "false");
    if (string_at(kv, i, &s, &n)) return text_of_string(s, n, out);
    if (integer_at(kv, i, &integer)) return strbuf_addf(out, "%lld", (long long)integer);
    if (!number_at(kv, i, &number)) return strbuf_adds(out, "?");
    return strbuf_addf(out, kv->type == KV_U64 ? "%.0f" : "%.9g", number);
}

status_t gguf_kv_text(const gguf_t *g, int64_t i, strbuf_t *out) {
    const kv_t *kv = &g->kv[i];
    if (!kv->is_array) return text_of_item(kv, 0, out);
    TRY(strbuf_adds(out, "["));
    for (int64_t k = 0; k < kv->count && k < SHOWN_ITEMS; k++) {
        if (k) TRY(strbuf_adds(out, ", "));
        TRY(text_of_item(kv, k, out));
    }
    if (kv->count > SHOWN_ITEMS) TRY(strbuf_addf(out, ", ... %lld in all", (long long)kv->count));
    return strbuf_adds(out, "]");
}
