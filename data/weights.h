/* The weights of a base model: a Hugging Face directory (config.json with one or many safetensors) or one GGUF file.
 * Mapped, not copied; lives until weights_close. *local* */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "data/gguf.h"
#include "data/tensor_info.h"
#include "kernels/status.h"

typedef struct weights weights_t;

/* ST_INPUT when PATH is neither, or when a file of it is bad; says what was looked for. */
status_t weights_open(const char *path, weights_t **out);
void weights_close(weights_t *w);
const char *weights_path(const weights_t *w);
const gguf_t *weights_gguf(const weights_t *w);   /* NULL for a directory */
const json_t *weights_config(const weights_t *w); /* config.json, NULL for GGUF */
int64_t weights_count(const weights_t *w);
const tensor_info_t *weights_at(const weights_t *w, int64_t i);
const tensor_info_t *weights_find(const weights_t *w, const char *name); /* hashed; NULL if absent */
/* XXH64 over names, shapes, types and all tensor bytes: the base fingerprint kept in checkpoints. Reads the file once.
 */
uint64_t weights_fingerprint(const weights_t *w);
/* The same over any n tensors; their order and the files they are in do not matter. */
uint64_t weights_fingerprint_of(const tensor_info_t *const *t, int64_t n);
/* Gives up the memory of tensors that have been read; they can be read again. */
void weights_forget(const weights_t *w);
