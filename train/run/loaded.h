/* What every command loads: a base model with its tokenizer, and the methods on it. *local* */
#pragma once
#include "data/encoder.h"
#include "data/tokenizer.h"
#include "train/methods/method.h"
#include "train/models/build.h"

typedef struct loaded_method {
    const method_t *method;
    void *self;
    int first_param, last_param; /* it declared [first_param, last_param) of the model's parameters */
} loaded_method_t;

typedef struct loaded {
    bool borrowed; /* weights and tokenizer are another's */
    weights_t *weights;
    model_t model;
    tokenizer_t *tokenizer;
    loaded_method_t method[BUILD_MAX_HOOKS]; /* [n_method]; none: the base alone */
    hook_t hook[BUILD_MAX_HOOKS];            /* [n_method] */
    int n_method;
    virtual_layout_t layout; /* what the methods put into sequences */
} loaded_t;

/* The base at `path` and n finished adapters with all their methods, which act in the order in which they are given.
 * ST_USAGE when two of them hold the same type of method. Zeroed `out`; release it also after a failure. */
status_t loaded_open(const char *path, const char *const *adapter, int n, loaded_t *out);
/* For training: the base, the methods of the configuration, their initial weights (init_from, or from the seed). `base`
 * has opened the same model and outlives `out`, which shares its files, its tokenizer and the weights that are frozen
 * in both; NULL: nothing is shared. */
status_t loaded_open_methods(const config_t *config, const loaded_t *base, loaded_t *out);
void loaded_close(loaded_t *l);
