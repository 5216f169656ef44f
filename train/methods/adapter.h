/* A finished adapter on disk, whatever the container: a PEFT directory, a LoRA as GGUF, one of our checkpoints, or a
 * run's output_dir (its final.h5, else its newest checkpoint). It has one part for each method it holds; config, shapes
 * and loading are those of the selected part, the first one after opening. Tensors are read by PEFT name. *local* */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include "kernels/status.h"
#include "kernels/view.h"
#include "train/models/model.h"

typedef struct adapter adapter_t;

/* ST_INPUT when PATH is none of these or is damaged. */
status_t adapter_open(const char *path, adapter_t **out);
void adapter_close(adapter_t *a);
const char *adapter_path(const adapter_t *a);
int adapter_parts(const adapter_t *a);
void adapter_select(adapter_t *a, int part);
/* Selects the part of this peft_type. ST_INPUT if there is none. */
status_t adapter_find(adapter_t *a, const char *peft_type);
/* What the part says about itself: PEFT's adapter_config, peft_type in upper case, and from a checkpoint "graft". */
const json_t *adapter_config(const adapter_t *a);
/* Fingerprint of the base the adapter was trained on, 0 if unknown. */
uint64_t adapter_base(const adapter_t *a);
/* Path of that base as the adapter has it, NULL if unknown. */
const char *adapter_base_path(const adapter_t *a);
/* The configuration of the run that wrote it, as YAML; NULL if it is no checkpoint of ours. */
const char *adapter_run_config(const adapter_t *a);
/* Before tensors are looked up: tells the model, by which a GGUF's tensors get PEFT's names. ST_INPUT when the file is
 * for another architecture. */
status_t adapter_bind(adapter_t *a, const model_t *m);
int64_t adapter_count(const adapter_t *a);
const char *adapter_name(const adapter_t *a, int64_t i);
/* Tensors that belong to no part, such as the rows of added tokens (MODEL_NEW_PREFIX): shape, rank 0 if there is none,
 * and the values. */
view_t adapter_shared_shape(const adapter_t *a, const char *name);
status_t adapter_shared_read(const adapter_t *a, const char *name, float *out);
/* Shape of the part's tensor `name`: rank 0 if there is none. */
view_t adapter_shape(const adapter_t *a, const char *name);
/* Fills the trainable parameters [first, last) of the model from the selected part. Strict: a missing tensor, one of
 * the part that no parameter takes and a wrong shape are ST_INPUT errors by name. */
status_t adapter_load(const adapter_t *a, model_t *m, int first, int last);
