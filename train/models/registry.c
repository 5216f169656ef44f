/* The model families: one row each. */
#include "train/models/model.h"

extern const family_t family_llama, family_gpt2;

const family_t *const families[] = {&family_llama, &family_gpt2, NULL};
