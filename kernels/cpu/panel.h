/* Products whose right side lies in panels: matrix b [depth, n] is cut in groups of PANEL columns, and group g holds
 * its rows one after another at b + g * PANEL * depth, so that a product reads it in one stream. Left sides lie as they
 * are. On the calling thread; every sum runs over l in order. *local* */
#pragma once
#include "kernels/cpu/cpu.h"

/* Columns of a panel; rows that a product writes together. */
enum { PANEL = 16, PANEL_ROWS = 4 };

static inline int64_t panel_round(int64_t n) {
    return (n + PANEL - 1) / PANEL * PANEL;
}

/* Panels of factor * x, x [rows, cols] with rows `stride` apart, where a panel has room for `depth` rows. Columns
 * behind the last are 0. */
void panel_copy(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor, int64_t depth, float *p);

/* Panels of factor * x^T from column `first` on; their depth is cols. Columns behind the last are
 * left as they are or repeat it. */
void panel_transpose(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor, int64_t first, float *p);

/* y [rows, cols] = (acc ? y : 0) + factor[i] * x, x in panels of `depth` rows; factor NULL: 1. */
void panel_read(const float *p, int64_t depth, int64_t rows, int64_t cols, const float *factor, bool acc, float *y,
                int64_t stride);

/* One panel of products: c[i][0..PANEL) = (acc ? c : 0) + sum_l a(i,l) b[l][0..PANEL), i < rows, l < count. c has rows
 * c_step apart and room for `rows` rounded up to twice PANEL_ROWS, of which those behind the last are overwritten.
 * Scores are a triangle: their row 0 has `seen` columns that count, row 1 one more and so on, and those behind are 0.
 * What a triangle leaves out is not computed. */
typedef struct panel_product {
    const float *a;
    int64_t a_step;
    const float *b;
    float *c;
    int64_t c_step;
    int64_t rows, count, seen;
    bool acc;
} panel_product_t;

/* a(i,l) = a[i * a_step + l]; all of it (seen is not read). With `half`, the first half of the panel alone. */
void panel_scores(const panel_product_t *p, bool half);

/* a(i,l) = a[i * a_step + l], scores. */
void panel_by_rows(const panel_product_t *p);

/* a(i,l) = a[l * a_step + i], scores: c has a row per column of them. */
void panel_by_columns(const panel_product_t *p);
