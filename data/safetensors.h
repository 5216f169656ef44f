/* safetensors files: one mapped file, validated by the rules of formats.md 1.3; and a writer. *local* */
#pragma once
#include "data/tensor_info.h"
#include "kernels/status.h"

typedef struct safetensors safetensors_t;

status_t safetensors_open(const char *path, safetensors_t **out); /* ST_INPUT names file, tensor and rule */
void safetensors_close(safetensors_t *s);
int64_t safetensors_count(const safetensors_t *s);
const tensor_info_t *safetensors_at(const safetensors_t *s, int64_t i);

/* One tensor to write; data is float32 and is converted to `store` (STORE_F32, STORE_F16, STORE_BF16). */
typedef struct safetensors_out {
    const char *name;
    store_t store;
    int rank;
    int64_t dim[8];
    const float *data;
} safetensors_out_t;

/* Writes a file with __metadata__ {"format":"pt"}, laid out as formats.md 1.4 says, published by temporary name,
 * fsync, rename, fsync of the directory. ST_NOSPACE / ST_IO on failure; nothing is left behind then. */
status_t safetensors_write(const char *path, const safetensors_out_t *t, int64_t n);
