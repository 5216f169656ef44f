/* Optimiser state in shares (ZeRO-1, Rajbhandari et al. 2020, section 5.1): each rank holds exp_avg and exp_avg_sq of a
 * contiguous share of the trainable blob, updates the weights of that share with the whole gradient, and passes them to
 * the others. AdamW is elementwise, so weights and state have the bits of an unsharded run. Shares are a matter of
 * execution: a checkpoint holds the whole state, and any number of ranks goes on from it. */
#pragma once
#include "train/comm/comm_data.h"
#include "train/optim/adamw.h"

/* The share of this rank. *local* */
void sharding_share(const comm_t *c, int64_t n, int64_t *first, int64_t *count);
/* Every rank gets the weights that the others have updated. *collective* */
void sharding_publish(comm_data_t *d, const param_set_t *params);
/* The whole state in rank 0's memory, for a checkpoint: *state holds exp_avg and then exp_avg_sq, n_trainable numbers
 * each; the caller frees. NULL on the other ranks. *collective* */
status_t sharding_gather(comm_t *c, const adamw_t *a, int64_t n_trainable, float **state);
