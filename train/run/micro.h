/* Running micro-batches on a tape: the bridge between data/batch.h and train/models/build.h. *local* */
#pragma once
#include "data/batch.h"
#include "data/pack.h"
#include "train/models/build.h"

/* Copies a filled batch into the tape's inputs and sets the step's sizes. */
void micro_load(build_t *b, const batch_t *batch);
/* Forward, and on a device a wait for it; the sum of the goal's weighted token losses, which the step divides by
 * batch_t's weight_sum. */
status_t micro_forward(build_t *b, double *loss);
/* Room for prefix rows in a tape for batches of `capacity` tokens, virtual ones counted. */
int64_t micro_prefix_capacity(const virtual_layout_t *layout, int64_t capacity);
/* Opens a batch with batch_t.share for micro-batches of `capacity` tokens, virtual ones counted in every sequence: what
 * is held once comes on top. */
status_t micro_batch_init(const virtual_layout_t *layout, int64_t capacity, batch_t *out);
/* Fills in what a tape for such batches has to be told. */
void micro_share(const virtual_layout_t *layout, int64_t capacity, build_options_t *o);
/* Packs sequences of `lengths` tokens; a wrapper that keeps the length array. */
typedef struct micro_plan {
    pack_t pack;
    int32_t *lengths; /* virtual tokens counted */
    int64_t cap;
} micro_plan_t;
/* Takes the memory of plans of at most n sequences beforehand. */
status_t micro_plan_reserve(micro_plan_t *p, int64_t n, int64_t capacity);
status_t micro_plan(micro_plan_t *p, const dataset_t *d, const int64_t *sequences, int64_t n, packing_t kind,
                    int64_t capacity);
void micro_plan_release(micro_plan_t *p);
/* Fills `batch` with micro-batch m of the plan. `first`: the place in the stream of sequences[0], -1 without one. */
status_t micro_fill(const micro_plan_t *p, const dataset_t *d, const int64_t *sequences, int64_t first, int64_t m,
                    batch_t *batch);
