/* A small residual network straight on the tape, without model or file: for tests of planning and execution.
 * x = E[ids]; per block x += W2 silu(G h) * (U h), h = rmsnorm(x), with low-rank pairs on U and W2 of the adapted
 * blocks; loss of the chosen rows. Everything asserts success. *local* */
#pragma once
#include "train/tape/tape.h"
#include "train/tape/tape_impl.h"

enum { NET_D = 10, NET_F = 14, NET_V = 13, NET_R = 2, NET_MAX_BLOCKS = 8 };

typedef struct net_how {
    int blocks;
    int frozen; /* bottom blocks without pairs */
    bool recompute, forward_only;
    bool joined;     /* the sum of a block and the norm that follows it are one op, at the block's end */
    bool keep_first; /* the caller reads the first block's result */
    double dropout;
    tape_sizes_t capacity;
    device_t *device; /* of a backend that works on one */
} net_how_t;

typedef struct net {
    const backend_t *backend;
    param_set_t params;
    tape_t *tape;
    val_t ids, rows, targets, weights, key, loss;
    val_t first;                            /* the first block's result */
    int32_t first_node[NET_MAX_BLOCKS + 1]; /* nodes of block i: [i], [i + 1] - 1 */
} net_t;

/* A tensor `part`.`block` [rows, cols], or [rows] if cols is 0; its index. */
int net_declare(param_set_t *s, const char *part, int block, int64_t rows, int64_t cols, bool trainable);
/* Random values for all of them, around 1 in vectors and around 0 in matrices. */
void net_randomize(param_set_t *s);

void net_open(net_t *n, const backend_t *backend, net_how_t how);
void net_close(net_t *n);
/* Fills the inputs with the first `rows` tokens of a fixed text and sets the sizes. */
void net_load(net_t *n, int64_t tokens, int64_t rows);
/* Forward and, with `grad` (n_trainable, overwritten; on the host), backward; the loss. */
double net_run(net_t *n, void *grad);
/* Fills arena and scratch with a byte. */
void net_fill(net_t *n, int byte);
