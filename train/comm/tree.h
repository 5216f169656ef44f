/* The canonical reduction (docs/architecture.md, "Ranks"): gradients of a step's micro-batches 0..M-1 are summed in one
 * fixed binary tree over the micro-batch index. Node (level l, index i) covers [i 2^l, min((i+1) 2^l, M)); a node whose
 * right child is empty is its left child. The tree depends on M alone, so the sum has the same bits on any number of
 * ranks. Micro-batches are dealt to ranks in contiguous shares (tree_share); a rank folds the complete nodes inside its
 * share as they finish, then ranks pass nodes point to point along the tree to rank 0, which broadcasts the root.
 *
 * Vectors are in the memory of the data communicator's device. There all work goes into the device's queue and the
 * communicator's, and nothing waits. */
#pragma once
#include <stdint.h>
#include "kernels/status.h"
#include "kernels/vector.h"
#include "train/comm/comm_data.h"

typedef struct tree tree_t;

/* The share [*lo, *hi) of `rank` of M micro-batches: as even as possible, in rank order. *local* */
void tree_share(int64_t M, int size, int rank, int64_t *lo, int64_t *hi);

/* For vectors of n floats, added by *vector, the table of the backend. `sum` is where each step's sum is left; the tree
 * works in it, too, so a step of one micro-batch on one rank needs no other memory. All three outlive the tree.
 * *local* */
status_t tree_open(comm_data_t *d, const vector_calls_t *vector, int64_t n, float *sum, tree_t **out);
void tree_close(tree_t *t);
/* Begins a step of M >= 1 micro-batches. Takes memory when no step before needed as many nodes as this one: about
 * log2(M) vectors; M is known no earlier, and what could be is far above it. The last step's sum is lost. After an
 * error the tree is not used until the next tree_begin. *local* */
status_t tree_begin(tree_t *t, int64_t M);
/* Where the gradient of this rank's next micro-batch must be written (zeroed, n floats); then tree_push folds it.
 * *local* */
float *tree_leaf(tree_t *t);
void tree_push(tree_t *t);
/* *collective*: leaves the sum of all M gradients in `sum` on every rank, in the order of the device's queue. */
void tree_finish(tree_t *t);
