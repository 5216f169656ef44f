/* A micro-batch: packed sequences as the arrays that kernels read. No padding exists.
 *
 * Shapes: N tokens, S sequences, M rows with a loss; all arrays are allocated once for `capacity` tokens. A row t that
 * predicts a weighted target stands in loss_row; its target is the next token of its sequence. *local* */
#pragma once
#include <stdint.h>
#include "data/dataset.h"

typedef struct batch {
    int64_t capacity; /* most tokens */
    int64_t n_tokens, n_seqs, n_loss;
    int32_t *ids;        /* [N] */
    int32_t *positions;  /* [N] from 0 in every sequence */
    int32_t *cu_seqlens; /* [S+1] sequence s is rows [cu_seqlens[s], cu_seqlens[s+1]) */
    uint64_t *token_key; /* [N] index of the sequence within the step << 32 | position: counter of random values */
    int32_t *loss_row;   /* [M] ascending */
    int32_t *targets;    /* [M] */
    float *loss_weight;  /* [M] */
    double weight_sum;   /* of loss_weight */
    sequence_t sequence; /* work space of batch_fill */
    dataset_scratch_t scratch;
} batch_t;

status_t batch_init(batch_t *b, int64_t capacity);
void batch_release(batch_t *b);
/* Fills the batch with n sequences of the data set: sequences[index[i]] for i < n, as pack_step's order gives them
 * (index = order + start[m], sequences = the stream_step's). ST_INTERNAL if they exceed the capacity. */
status_t batch_fill(batch_t *b, const dataset_t *d, const int64_t *sequences, const int64_t *index, int64_t n);
