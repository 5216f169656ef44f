/* Writes GGUF files of version 3 (formats.md 2): metadata and float32 tensors. *local* */
#pragma once
#include <stdint.h>
#include "kernels/status.h"

enum { GGUF_MAX_NAME = 63, GGUF_ALIGNMENT = 32 };

/* One pair of metadata: a string, or, where `text` is NULL, a float32. */
typedef struct gguf_out_kv {
    const char *key, *text;
    float real;
} gguf_out_kv_t;

/* One tensor, row-major as in torch: the file has the dimensions the other way round, the bytes are the same. */
typedef struct gguf_out {
    const char *name; /* at most GGUF_MAX_NAME bytes */
    int rank;         /* 1..4 */
    int64_t dim[4];
    const float *data;
} gguf_out_t;

/* Tensors are laid out in the given order, each at a multiple of GGUF_ALIGNMENT; published by temporary name, fsync,
 * rename. ST_INTERNAL on names or shapes that the format does not have, ST_NOSPACE / ST_IO on failure; nothing is left
 * behind then. */
status_t gguf_write(const char *path, const gguf_out_kv_t *kv, int64_t n_kv, const gguf_out_t *t, int64_t n);
