/* What every command loads: a base model with its tokenizer, and the methods on it. *local* */
#pragma once
#include "data/encoder.h"
#include "data/tokenizer.h"
#include "train/methods/method.h"
#include "train/models/build.h"
#include "train/run/compute.h"
#include "train/run/special.h"

typedef struct loaded_method {
    const method_t *method;
    void *self;
    int first_param, last_param; /* it declared [first_param, last_param) of the model's parameters */
} loaded_method_t;

typedef struct loaded {
    bool borrowed;       /* weights, configuration, tokenizer and special tokens are another's */
    weights_t *weights;  /* NULL: the model was made anew */
    json_t *config;      /* as in config.json; NULL: the base is a GGUF */
    char *tokenizer_dir; /* the Hugging Face directory of the tokenizer; NULL: it came from a GGUF */
    uint64_t seed;       /* of a model made anew */
    model_t model;
    tokenizer_t *tokenizer;
    special_t special;
    loaded_method_t method[BUILD_MAX_HOOKS]; /* [n_method]; none: the base alone */
    hook_t hook[BUILD_MAX_HOOKS];            /* [n_method] */
    int n_method;
    virtual_layout_t layout; /* what the methods put into sequences */
    goal_t *goal;            /* [n_goal] what loaded_open_methods was asked to minimise: one for each stage */
    int n_goal;
    compute_t compute; /* borrowed; zeroed: the host's */
} loaded_t;

/* The base at `path` and n finished adapters with all their methods, which act in the order in which they are given.
 * The output_dir of a run stands for the run's base and, with no adapter given, for what it trained. ST_USAGE when two
 * adapters hold the same type of method, or both add tokens. Zeroed `out`; release it also after a failure. */
status_t loaded_open(const char *path, const char *const *adapter, int n, loaded_t *out);
/* A finished adapter on the base that it names itself. ST_USAGE if it names none. */
status_t loaded_open_adapter(const char *path, loaded_t *out);
/* For training: the base, the methods and the objective of the configuration, their initial weights (init_from, or from
 * the seed). `base` has opened the same model and outlives `out`, which shares its files, its tokenizer and the weights
 * that are frozen in both; NULL: nothing is shared. */
status_t loaded_open_methods(const config_t *config, const loaded_t *base, loaded_t *out);
/* Where its passes run from now on: the weights, as they are now, get their copy there. `where` outlives l. */
status_t loaded_place(loaded_t *l, const compute_t *where);
const backend_t *loaded_backend(const loaded_t *l);
void loaded_close(loaded_t *l);
