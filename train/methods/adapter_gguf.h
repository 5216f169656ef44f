/* A LoRA in a GGUF file as llama.cpp has it (formats.md 3), seen as PEFT's: alpha / r B A with the rank of each pair,
 * the rows of B in the order of Hugging Face. *local* */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "data/gguf.h"
#include "kernels/view.h"
#include "train/models/model.h"

typedef struct adapter_gguf adapter_gguf_t;

bool adapter_gguf_recognise(const char *path);
/* ST_INPUT when the file is no LoRA. `config` is what PEFT's adapter_config.json would say, owned by the caller. */
status_t adapter_gguf_open(const char *path, adapter_gguf_t **out, json_t **config);
void adapter_gguf_close(adapter_gguf_t *a);
/* Names the tensors after the modules of the model; until then they have the file's names. ST_INPUT when the file was
 * made for another architecture. */
status_t adapter_gguf_bind(adapter_gguf_t *a, const model_t *m);
int64_t adapter_gguf_count(const adapter_gguf_t *a);
const char *adapter_gguf_name(const adapter_gguf_t *a, int64_t i);
const tensor_info_t *adapter_gguf_at(const adapter_gguf_t *a, int64_t i);
/* Values in the order of Hugging Face; after adapter_gguf_bind. */
status_t adapter_gguf_read(const adapter_gguf_t *a, int64_t i, float *out);
