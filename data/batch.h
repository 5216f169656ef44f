/* A micro-batch: packed sequences as the arrays that kernels read. No padding exists.
 *
 * Shapes: N rows (tokens and slots), S sequences, M rows with a loss, P prefix rows; all arrays are allocated once for
 * `capacity` tokens, virtual ones included. A row that predicts a weighted target stands in loss_row; its target is the
 * next token of its sequence.
 *
 * With `share`, the slots that all sequences begin with (virtual_shared) are rows of the batch once: they are its first
 * sequence, and prefix rows of every other one, numbered behind the layout's own prefix rows. Positions, targets and
 * random values of tokens are those of a batch that repeats the slots. *local* */
#pragma once
#include <stdint.h>
#include "data/dataset.h"
#include "data/virtual.h"

typedef struct batch {
    int64_t capacity;                           /* most of N + P */
    bool share;                                 /* set by the owner before anything is added */
    int64_t n_tokens, n_seqs, n_loss, n_prefix; /* N, S, M, P */
    int32_t *ids;                               /* [N] 0 in slots */
    int32_t *positions;                         /* [N] in every sequence from its number of prefix rows */
    int32_t *slot;                              /* [N] number of the virtual row, -1: a token */
    int32_t *cu_seqlens;                        /* [S+1] sequence s is rows [cu_seqlens[s], cu_seqlens[s+1]) */
    int32_t *prefix;                            /* [P] numbers of the prefix rows */
    int32_t *cu_prefix;                         /* [S+1] sequence s has prefix[cu_prefix[s] .. cu_prefix[s+1]) */
    int32_t *label[VIRTUAL_MAX_FIELDS];         /* [S] labels of the layout's fields, -1: none */
    uint64_t *token_key; /* [N] index of the sequence within the step << 32 | row in it: counter of random values */
    int32_t *loss_row;   /* [M] ascending */
    int32_t *targets;    /* [M] */
    float *loss_weight;  /* [M] */
    double *score;       /* [M] of the row's sequence */
    double weight_sum;   /* of loss_weight */
    sequence_t sequence; /* work space of batch_fill */
    dataset_scratch_t scratch;
} batch_t;

status_t batch_init(batch_t *b, int64_t capacity);
void batch_release(batch_t *b);
/* Labels stay, for those who go on with the same sequences token by token. */
void batch_clear(batch_t *b);
/* Appends one sequence with its virtual tokens; `index` (below 2^32 - 1) goes into token_key. ST_INTERNAL if it does
 * not fit. */
status_t batch_add(batch_t *b, const virtual_layout_t *v, const sequence_t *s, int64_t index);
/* Fills the batch with n sequences of the data set: sequences[index[i]] for i < n, as pack_step's order gives them
 * (index = order + start[m], sequences = the stream_step's), virtual tokens by the data set's layout. `first` is
 * the place in the stream of sequences[0], -1 for sequences of no stream (dataset_sequence). ST_INTERNAL if they exceed
 * the capacity. */
status_t batch_fill(batch_t *b, const dataset_t *d, const int64_t *sequences, int64_t first, const int64_t *index,
                    int64_t n);
