/* A tiny model with random weights, a method on it and made-up batches, for tests of the whole engine.
 *
 * The model is written as a Hugging Face directory and opened as a user's would be; the directory is gone again when
 * tiny_open returns. Its weights are float32 numbers in every precision, so that a double and a float model agree.
 * Every function asserts that it succeeds. *local* */
#pragma once
#include "data/batch.h"
#include "kernels/op.h"
#include "train/methods/method.h"

typedef struct tiny {
    model_t model;
    config_t config;
    const method_t *method; /* the first one */
    void *self, *second;    /* second: of the method behind it, NULL: there is none */
    hook_t hook[2];
    int n_hook;
    virtual_layout_t layout;
    goal_t goal;
} tiny_t;

extern const char tiny_llama[]; /* config.json: three query heads per key/value head, tied */
extern const char tiny_gpt2[];

/* Tokens of a text: one for every byte, by its value; BOS is 1, there is no EOS. */
extern const encoder_t tiny_encoder;

/* config_json: config.json of any family. method: the section of a configuration, as YAML flow text, or a list of two
 * whose tensors have different names, behind which `objective: ...` may stand in a line of its own. The trainable
 * tensors have the method's initial values. NULL: no method, every weight of the model is trained. */
void tiny_open(tiny_t *t, const char *config_json, const char *method, dtype_t real);
/* The same with tokens of these texts added behind id first - 1, whose rows are trained beside the method. */
void tiny_open_grown(tiny_t *t, const char *config_json, const char *method, dtype_t real, int64_t first,
                     const char *const *text, int n);
void tiny_close(tiny_t *t);
/* Trainable tensors that are 0 at first get values, too. */
void tiny_randomize(tiny_t *t);

/* A batch of n sequences of the given lengths with the virtual tokens of the method; the first one is number `first` in
 * the step. Tokens, weights and keys depend on a sequence's number and the place in it alone; its label in a field of n
 * values is number % n, its score number / 4, or, where none is legal, number % (n + 1) - 1. One token is BOS, half of
 * them the prompt. */
void tiny_batch(batch_t *b, const tiny_t *t, const int32_t *length, int64_t n, int64_t first);
/* The same with slots that all sequences begin with held once, if there are such (batch_t.share). */
void tiny_batch_shared(batch_t *b, const tiny_t *t, const int32_t *length, int64_t n, int64_t first);

/* How tiny_run runs. */
typedef struct tiny_how {
    const backend_t *backend;
    bool bare;  /* without the method */
    bool plain; /* without the objective */
    bool recompute;
    uint64_t step;
} tiny_how_t;
/* On a device the parameters must have been placed (param_set_place).
 * One forward; the loss. With `grad` (n_trainable elements of the model's type, added to) a backward, too. */
double tiny_run(tiny_t *t, tiny_how_t how, const batch_t *b, void *grad);

/* n_trainable zeros of the model's type; the caller frees. */
void *tiny_zeros(const tiny_t *t);
/* Element i of an array of the model's type. */
double tiny_at(const void *data, dtype_t real, int64_t i);
/* |x - y| / |y| over n numbers. */
double tiny_distance(const void *x, const void *y, dtype_t real, int64_t n);
