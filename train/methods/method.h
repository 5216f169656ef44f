/* A method: what is trained on the base. One file with one table, and one row in registry.c.
 *
 * A method declares its trainable tensors under the names PEFT gives them, so that loading, saving and resuming are
 * generic; it acts on the model through hooks (train/models/build.h). All functions are *local*. */
#pragma once
#include <jansson.h>
#include <stdio.h>
#include "kernels/status.h"
#include "data/encoder.h"
#include "data/virtual.h"
#include "train/config/config.h"
#include "train/methods/adapter.h"
#include "train/models/build.h"

/* What initial values may be made from. */
typedef struct method_init {
    const encoder_t *encoder;
    const backend_t *backend;
    uint64_t seed;
} method_init_t;

/* One finished result of a method, as exports write it: PEFT's adapter_config.json and its tensors in float32. */
typedef struct method_result {
    json_t *peft_config;
    struct {
        const char *name;
        int rank;
        int64_t dim[2];
        const float *data;
    } * tensor;
    int64_t n_tensor;
    void *memory;           /* of names and data that are not the model's own */
    const char *peft_lacks; /* what PEFT cannot do that this result needs; NULL: nothing */
    const char *rows_stand; /* the one tensor is rows in the place of token embeddings: where; NULL: it is not */
} method_result_t;

/* The change scale B A of a site's weight: A [r,in], B [out,r], float32, borrowed. */
typedef struct low_rank {
    const float *a, *b;
    int64_t r;
    double scale;
} low_rank_t;

/* Which of the things that a method has learned: labels of the layout's fields, -1: not chosen. */
typedef struct method_choice {
    const virtual_layout_t *layout;
    const int32_t *label; /* [layout->n_field] */
} method_choice_t;

typedef struct method {
    method_fields_t section; /* its name in a configuration (lower case) and the keys besides `type` */
    const char *peft_type;   /* in adapter_config.json */
    const char *doc;
    bool trains_base; /* its tensors are those of the base model itself, under their own names in every run */
    /* Declares the trainable tensors on the model, before param_set_alloc. cfg is the bound section. ST_USAGE when the
     * configuration does not fit the model. */
    status_t (*open)(const void *cfg, model_t *m, void **self);
    /* The same for a finished adapter: its tensors and config decide. ST_INPUT when it cannot be represented. */
    status_t (*open_adapter)(const adapter_t *a, model_t *m, void **self);
    void (*close)(void *self);
    /* Adds what the method puts into every sequence. NULL: nothing. */
    status_t (*place)(void *self, virtual_layout_t *layout);
    /* Initial values, after the base weights were loaded; random ones by (seed, tensor's own name). ST_USAGE when what
     * the configuration asks for cannot be had from this model. */
    status_t (*init)(void *self, model_t *m, const method_init_t *in);
    hook_t (*hook)(void *self);
    /* Path of weights to start from, NULL for none. */
    const char *(*init_from)(const void *cfg);
    /* Initial values from the adapter at that path, for the method's parameters [first, last). NULL: adapter_load of
     * the part of peft_type. */
    status_t (*start)(void *self, model_t *m, adapter_t *a, int first, int last);
    /* What a checkpoint says about the method: PEFT's adapter_config.json, complete, and under the key "graft" what
     * open_adapter needs beside it. */
    status_t (*describe)(const void *self, const model_t *m, json_t **out);
    /* Folds an encoder and picks what was chosen, for export. ST_USAGE when a choice is missing. NULL: the description
     * without "graft" and all trainable tensors of the method under their own names. */
    status_t (*result)(void *self, model_t *m, const method_choice_t *choice, method_result_t *out);
    /* For each engine but PEFT one line: does it load the export to PEFT's format? */
    status_t (*engines)(const void *self, const model_t *m, FILE *out);
    /* Puts the tensors of what was chosen in the place of base weights, before an export of the whole model merges.
     * NULL: there is nothing to choose. ST_USAGE when a choice is missing; nothing has changed then. */
    status_t (*settle)(void *self, model_t *m, const method_choice_t *choice);
    /* Adds the method's change to the base weight w [out,in] of a site (float32 sums). NULL: cannot be merged. */
    status_t (*merge)(const void *self, const model_t *m, const site_t *site, float *w);
    /* What the method adds to the weight of a site, all that it learned; false: nothing. NULL: its change is no such
     * product. */
    bool (*low_rank)(const void *self, const model_t *m, const site_t *site, low_rank_t *out);
} method_t;

extern const method_t *const methods[]; /* registry.c, NULL-terminated */

const method_t *method_find(const char *name);
const method_t *method_find_peft(const char *peft_type);
void method_peft_types(char *out, size_t size); /* "LORA, PROMPT_TUNING", for messages */
