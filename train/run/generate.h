/* Continuations of prompts with a key/value cache: several prompts share each forward pass.
 *
 * A continuation may have several streams: prompts of their own, in lockstep, that all get the token which is chosen
 * from a weighted sum of their logits, z = sum_j w_j z_j. Two streams with the weights g and 1 - g are classifier-free
 * guidance, z = u + g (c - u) with the conditioned c first (Sanchez et al. 2023, eq. 7); n of them with 1/n each are an
 * ensemble of prompts. Logits and log-probabilities differ by a number that is the same for the whole vocabulary, so
 * the sum is one of log-probabilities as well. A weight of 0 leaves a stream out, a single weight of 1 is that stream's
 * logits to the bit. *local* */
#pragma once
#include "kernels/buf.h"
#include "data/batch.h"
#include "train/run/loaded.h"

typedef struct generate_options {
    int64_t max_new_tokens;
    double temperature; /* 0: greedy */
    double top_p;       /* 1: all */
    int64_t top_k;      /* 0: all */
    uint64_t seed;
    bool ignore_eos;
    int64_t streams;      /* of every continuation; 0 is 1 */
    const double *weight; /* [streams] of their logits; NULL with one stream */
} generate_options_t;

typedef struct generator {
    build_t build;
    loaded_t *loaded;
    int64_t slots, places, capacity;
    batch_t batch;       /* of prompts with their virtual tokens */
    int32_t *past, *fed; /* [slots] places used in the cache; tokens of the present pass */
    float *work;         /* [V] sampling */
    int32_t *index;      /* [V] */
} generator_t;

/* Room for `slots` streams at once of at most `places` tokens with their continuation, virtual tokens counted. */
status_t generator_open(loaded_t *l, int64_t slots, int64_t places, generator_t *g);
void generator_close(generator_t *g);
/* Appends to out[i] the continuation of the prompts prompt[i * streams + j] (at least one token each; what stands
 * behind their n_prompt tokens is ignored), i < n, n * streams <= slots, without the EOS that ended it. `first` numbers
 * the continuations over the whole job, so that sampling does not depend on how they are grouped. A continuation also
 * ends when the places of one of its streams are full. `stop`, when not NULL, is asked after every token. */
status_t generator_run(generator_t *g, const sequence_t *prompt, int64_t n, int64_t first, const generate_options_t *o,
                       bool (*stop)(void *arg, int64_t i, const i32buf_t *out), void *arg, i32buf_t *out);
