/* P-tuning's encoder as PEFT 0.13.2 has it (p_tuning/model.py): the rows of a table go through an MLP d -> H -> H -> d,
 * or through a bidirectional LSTM d -> 2H of some layers and then 2H -> 2H -> d; every step but the last ends in ReLU.
 * Tensors have the names of PEFT's training state. All functions are *local*. */
#pragma once
#include "train/methods/method.h"

enum { PROMPT_ENCODER_MAX_LAYERS = 8 };

typedef struct prompt_linear {
    int weight, bias; /* parameters */
} prompt_linear_t;

typedef struct prompt_encoder {
    bool lstm;
    int64_t hidden; /* H */
    int layers;     /* of the LSTM */
    int embedding;  /* parameter [rows, D] */
    prompt_linear_t linear[3];
    int n_linear;
    int weight[PROMPT_ENCODER_MAX_LAYERS][2][4]; /* w_ih, w_hh, b_ih, b_hh forwards and backwards of every layer */
} prompt_encoder_t;

/* Declares all tensors for a table of `rows`; lstm, hidden and layers are set. */
status_t prompt_encoder_declare(prompt_encoder_t *e, model_t *m, int64_t rows);
/* torch's default distributions: the table N(0, 1), a linear uniform in +-1/sqrt(in), an LSTM in +-1/sqrt(H). */
void prompt_encoder_init(const prompt_encoder_t *e, const model_t *m, uint64_t seed);
/* The encoded rows [rows, D]. */
val_t prompt_encoder_emit(const prompt_encoder_t *e, tape_t *t);
/* The same as numbers, made by the kernels that train. The caller frees *rows. float32 models. */
status_t prompt_encoder_fold(const prompt_encoder_t *e, model_t *m, float **rows);
