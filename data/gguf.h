/* GGUF v2/v3 files: metadata and tensors, mapped read-only and validated before any byte is trusted. Everything
 * returned points into the mapping or the handle and lives until gguf_close. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "data/tensor_info.h"
#include "kernels/status.h"

typedef struct gguf gguf_t;

status_t gguf_open(const char *path, gguf_t **out); /* ST_INPUT: what is wrong, with key or tensor name */
void gguf_close(gguf_t *g);
const char *gguf_path(const gguf_t *g);

int64_t gguf_tensor_count(const gguf_t *g);
const tensor_info_t *gguf_tensor_at(const gguf_t *g, int64_t i);

/* Metadata, by key. The getters return false when the key is absent or of another type (integers of any width and
 * sign convert when they fit). Strings are not NUL-terminated in the file: pointer and length. */
bool gguf_has(const gguf_t *g, const char *key);
bool gguf_get_i64(const gguf_t *g, const char *key, int64_t *out);
bool gguf_get_f64(const gguf_t *g, const char *key, double *out); /* any number */
bool gguf_get_bool(const gguf_t *g, const char *key, bool *out);
bool gguf_get_str(const gguf_t *g, const char *key, const char **s, size_t *n);
/* Arrays: count, or -1 when absent or not an array of this kind. */
int64_t gguf_arr_count(const gguf_t *g, const char *key);
bool gguf_arr_str(const gguf_t *g, const char *key, int64_t i, const char **s,
                  size_t *n); /* O(1): offsets indexed at open */
bool gguf_arr_i64(const gguf_t *g, const char *key, int64_t i, int64_t *out);
bool gguf_arr_f64(const gguf_t *g, const char *key, int64_t i, double *out);
/* For `inspect`: the keys in file order and a short printable form of the value. */
int64_t gguf_kv_count(const gguf_t *g);
const char *gguf_kv_key(const gguf_t *g, int64_t i);
status_t gguf_kv_text(const gguf_t *g, int64_t i, struct strbuf *out);
