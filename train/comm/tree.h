/* The canonical reduction (docs/architecture.md, "Ranks"): gradients of a step's micro-batches 0..M-1 are summed in one
 * fixed binary tree over the micro-batch index. Node (level l, index i) covers [i 2^l, min((i+1) 2^l, M)); a node whose
 * right child is empty is its left child. The tree depends on M alone, so the sum has the same bits on any number of
 * ranks. Micro-batches are dealt to ranks in contiguous shares (tree_share); a rank folds the complete nodes inside its
 * share as they finish, then ranks pass nodes point to point along the tree to rank 0, which broadcasts the root. */
#pragma once
#include <stdint.h>
#include "kernels/status.h"
#include "train/comm/comm.h"

typedef struct tree tree_t;

/* The share [*lo, *hi) of `rank` of M micro-batches: as even as possible, in rank order. *local* */
void tree_share(int64_t M, int size, int rank, int64_t *lo, int64_t *hi);

/* Buffers for vectors of n floats and at most max_micro micro-batches per step. *local* */
status_t tree_open(comm_t *c, int64_t n, int64_t max_micro, tree_t **out);
void tree_close(tree_t *t);
/* Begins a step of M micro-batches. *local* */
void tree_begin(tree_t *t, int64_t M);
/* Where the gradient of this rank's next micro-batch must be written (zeroed, n floats); then tree_push folds it.
 * *local* */
float *tree_leaf(tree_t *t);
void tree_push(tree_t *t);
/* *collective*: leaves the sum of all M gradients in out (n floats) on every rank. M >= 1. ST_COMM is fatal: other
 * ranks may still wait for this one's messages, so the caller ends in comm_die. */
status_t tree_finish(tree_t *t, float *out);
