/* What both passes of attention share: the keys of a key head, packed, and scores against them. Prefix rows and a
 * sequence's own rows are one row of keys here: key j is prefix row j or own row j - prefix. *local* */
#pragma once
#include "kernels/cpu/panel.h"
#include "kernels/ops/attention.h"

/* Key head kv of sequence s. */
typedef struct attention_keys {
    int64_t s, kv;
    int64_t first, length;        /* own rows */
    int64_t prefix_first, prefix; /* prefix rows */
    int64_t count;                /* both */
} attention_keys_t;
attention_keys_t attention_keys(const op_io_t *io, int64_t s, int64_t kv);

/* No sequence has more keys. */
int64_t attention_most_keys(const op_io_t *io);

/* Floats between rows of scores against `keys` keys: whole panels, one more than needed, and an odd number of them, so
 * that rows do not fall on each other in a cache. */
static inline int64_t attention_score_row(int64_t keys) {
    return ((panel_round(keys) / PANEL + 1) | 1) * PANEL;
}

/* Panels of factor times input `own` and its counterpart of the prefix, by rows or transposed. Where an input is not at
 * hand, its part is left as it is. */
void attention_pack_rows(const op_io_t *io, const attention_keys_t *keys, int own, int prefix, float factor, float *p);
void attention_pack_columns(const op_io_t *io, const attention_keys_t *keys, int own, int prefix, float factor,
                            float *p);

/* s[i][j] = sum_c q[i][c] k[j][c], i < rows, j < count, k packed by columns. Row i sees its first seen + i columns
 * alone; others may be left out. s has room for rows + 2 * PANEL_ROWS rows. */
void attention_scores(const float *q, int64_t stride, int64_t rows, int64_t dim, const float *k, int64_t count,
                      int64_t seen, float *s, int64_t step);

size_t cpu_attention_bwd_scratch(const op_io_t *io);
