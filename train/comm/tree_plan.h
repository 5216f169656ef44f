/* The schedule of the canonical reduction, free of buffers and messages, so that it can be checked alone (tree.h says
 * what is computed). Every rank walks the same list of merges and does its part of each: since all ranks follow one
 * total order, blocking sends and receives cannot wait on each other in a circle. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* A node lives on the rank that owns its first micro-batch; so a merge happens where the left child lives. */
int tree_owner(int64_t M, int size, int64_t micro);

/* Vectors that a share [lo, hi) of M needs at once: nodes that wait for their siblings, and one more for the leaf being
 * written or the message being received; the last share receives none. */
int64_t tree_nodes(int64_t lo, int64_t hi, int64_t M);

/* The merge of nodes (level, right - 1) and (level, right) into (level + 1, right / 2). */
typedef struct tree_merge {
    int64_t M;
    int size;
    int level;
    int64_t right;  /* odd index of the right child */
    int from, into; /* ranks where the right and the left child live; equal: no message */
} tree_merge_t;

/* The merges in order: level by level, left to right. `merge` is zeroed but for M and size before the first call; false
 * when there are no more. */
bool tree_next(tree_merge_t *merge);
