/* Optimiser state in shares (ZeRO-1, Rajbhandari et al. 2020, section 5.1): each rank holds exp_avg and exp_avg_sq of a
 * contiguous share of the trainable blob, updates the weights of that share, and passes them to the others. With the
 * canonical reduction every rank has the whole gradient; AdamW is elementwise, so weights and state have the bits of an
 * unsharded run. With the fast one a rank gets the gradient of its share alone. Shares are a matter of execution: a
 * checkpoint holds the whole state, and any number of ranks goes on from it. */
#pragma once
#include "train/comm/comm_data.h"
#include "train/optim/adamw.h"

/* The share of this rank. *local* */
void sharding_share(const comm_t *c, int64_t n, int64_t *first, int64_t *count);
/* adamw_update when the gradient's sum is there in shares, each on the rank of its share. The squares of all shares are
 * exchanged and added in the order of ranks, so all clip alike, and what is no number in one share is known to all.
 * *collective* */
void sharding_update(comm_data_t *d, adamw_t *a, const float *grad, double scale, double max_norm, double lr);
/* Every rank gets the weights that the others have updated, where updates are made: on the device, or on the host.
 * *collective* */
void sharding_publish(comm_data_t *d, const param_set_t *params);
/* The whole state where the host of rank 0 can read it, for a checkpoint: state[0] is exp_avg, state[1] exp_avg_sq, of
 * no meaning on the other ranks. The caller frees *copy on every rank, also after a failure. *collective* */
status_t sharding_gather(comm_t *c, const adamw_t *a, float *state[2], float **copy);
