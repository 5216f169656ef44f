/* Rows of attention scores: softmax and its gradient. Row i of s [rows, step] holds scores in its first seen + i
 * columns, none where that is negative, and no more than `most`; at least PANEL_ROWS columns behind them become 0,
 * because products may read those (kernels/cpu/panel.h). step leaves room for PANEL columns behind `most`. *local* */
#pragma once
#include "kernels/cpu/panel.h"

typedef struct score_rows {
    float *s;
    int64_t rows, step, seen, most;
} score_rows_t;

/* Every row has scores. s becomes exp(s - max of the row); lse[i * lse_step] = log(sum exp(s)), inverse[i] = 1 / sum
 * exp(s - max). */
void score_softmax(const score_rows_t *t, float *lse, int64_t lse_step, float *inverse);

/* s becomes p = exp(s - lse[i * lse_step]) and dp, laid out like s, becomes p (dp - dot[i]). */
void score_gradient(const score_rows_t *t, float *dp, const float *lse, int64_t lse_step, const float *dot);

/* dot[i] = sum_c a[i][c] b[i][c], summed as products of panels are: where p is 1, dp - dot is 0. */
void score_dots(const float *a, const float *b, int64_t stride, int64_t rows, int64_t cols, float *dot);
