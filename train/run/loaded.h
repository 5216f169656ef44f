/* What every command loads: a base model with its tokenizer, and the method on it. *local* */
#pragma once
#include "data/encoder.h"
#include "data/tokenizer.h"
#include "train/methods/method.h"
#include "train/models/build.h"

typedef struct loaded {
    weights_t *weights;
    model_t model;
    tokenizer_t *tokenizer;
    const method_t *method; /* NULL: the base alone */
    void *method_self;
    hook_t hook;
    int n_hook;
} loaded_t;

/* The base at `path` and, when not NULL, a finished adapter. Zeroed `out`; release it also after a failure. */
status_t loaded_open(const char *path, const char *adapter, loaded_t *out);
/* For training: the base, the method of the configuration, its initial weights (init_from, or from the seed). */
status_t loaded_open_method(const char *path, const method_t *method, const void *cfg, uint64_t seed, loaded_t *out);
void loaded_close(loaded_t *l);
