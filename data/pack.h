/* Packing: a step's sequences -> micro-batches of at most `capacity` tokens.
 *
 * Depends on the lengths alone, so every rank computes the same one. PACKING_NONE puts one sequence in each
 * micro-batch. Otherwise best-fit decreasing gives the number of micro-batches, and of two packings into that many the
 * more evenly filled one is taken. Inside a micro-batch sequences keep their order; micro-batches are in the order of
 * their first sequence. *local* */
#pragma once
#include <stdint.h>
#include "data/dataset.h"

/* Arrays belong to the pack and are reused from step to step; zero is valid and empty. */
typedef struct pack {
    int64_t n_micro;
    int64_t *start; /* [n_micro + 1] micro-batch m holds order[start[m] .. start[m+1]) */
    int64_t *order; /* [n] indices of sequences within the step */
    int64_t cap_start, cap_order;
    void *work; /* scratch */
    int64_t cap_work;
} pack_t;

/* Takes the memory that steps of at most n sequences need, so that pack_step has none to ask for. */
status_t pack_reserve(pack_t *p, int64_t n, int32_t capacity);
/* lengths[n] are the tokens of the step's sequences, virtual tokens included. ST_INTERNAL if one exceeds capacity (the
 * configuration check excludes it). */
status_t pack_step(pack_t *p, packing_t kind, const int32_t *lengths, int64_t n, int32_t capacity);
void pack_release(pack_t *p);
