/* Base models as a run or a command names them: a Hugging Face directory, a GGUF file, or a configuration with a
 * tokenizer from which a model is made anew. *local* */
#pragma once
#include "train/run/loaded.h"

/* Which model; strings are borrowed. */
typedef struct base_source {
    const char *path;      /* a Hugging Face directory or a GGUF file; NULL: */
    const char *config;    /* file with the keys of a config.json ... */
    const char *tokenizer; /* ... and a directory or GGUF file whose tokenizer is used */
    uint64_t seed;         /* of the weights of a model made anew */
} base_source_t;

base_source_t base_of_config(const config_t *config);
/* Opens tokenizer and model with the tokens of l->special, without weights: methods declare theirs, then base_load.
 * Without a vocabulary size the configuration gets the tokenizer's. ST_INPUT when the two do not belong together. */
status_t base_open(const base_source_t *source, loaded_t *l);
/* The same model again, which borrows files and tokenizer; `base` outlives it. */
status_t base_share(const loaded_t *base, loaded_t *l);
/* Allocates the parameters and fills in the base weights. `base`, when not NULL, is the one of base_share: what is
 * frozen in both is not held twice. */
status_t base_load(loaded_t *l, const loaded_t *base, bool with_grad);
/* *run: PATH is the output_dir of a run, and its configuration was read into `config` (release it). */
status_t base_find_run(const char *path, config_t *config, bool *run);
