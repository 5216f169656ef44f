/* Random initial values of tensors: a function of (seed, the tensor's own name, element), so that neither the
 * order of declaration nor other methods change them. Values are float32 numbers in a double model, too. *local* */
#pragma once
#include <stdint.h>
#include "train/tape/param.h"

/* Uniform in [-bound, bound). */
void initial_uniform(const param_t *p, double bound, uint64_t seed);
/* Normal with mean 0. */
void initial_normal(const param_t *p, double deviation, uint64_t seed);
/* The counter of random values of the tensor: rng_words(seed, RNG_INIT, initial_stream(p), index, word). */
uint64_t initial_stream(const param_t *p);
/* Sets element i of a tensor in the model's type. */
void initial_set(const param_t *p, int64_t i, double value);
