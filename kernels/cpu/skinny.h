/* Products with one short side r (the rank of LoRA), which libraries run at a fraction of a processor's rate. On the
 * calling thread; sums have a fixed order. *local* */
#pragma once
#include "kernels/cpu/cpu.h"

enum { SKINNY_MOST = 64, SKINNY_WIDTH = 8 };

/* r rounded up to whole vectors: the row length of packed narrow matrices, whose further columns are 0. */
static inline int64_t skinny_row(int64_t r) {
    return (r + SKINNY_WIDTH - 1) / SKINNY_WIDTH * SKINNY_WIDTH;
}
/* p[l][j] = a[l * row_step + j * col_step], l < rows, j < r; 0 for r <= j < skinny_row(r). */
void skinny_pack(const float *a, int64_t rows, int64_t r, int64_t row_step, int64_t col_step, float *p);

/* Narrow: c[i][j] = factor * sum_l a(i,l) p[l][j], i < m, l < k, j < skinny_row(r), with a(i,l) = a[i * i_step + l *
 * l_step] and p packed. c has rows of skinny_row(r). */
typedef struct skinny_narrow {
    const float *a;
    int64_t i_step, l_step;
    const float *p;
    float *c;
    int64_t m, k, r;
    float factor;
} skinny_narrow_t;
void skinny_narrow(const skinny_narrow_t *s);

/* Wide: c[i][j] = (acc ? c[i][j] : 0) + factor * sum_l t[i][l] p[l][j], i < m, l < r, j < n; t has rows of
 * skinny_row(r), p is packed with rows of skinny_row(n), c has rows of n. */
typedef struct skinny_wide {
    const float *t, *p;
    float *c;
    int64_t m, n, r;
    float factor;
    bool acc;
} skinny_wide_t;
void skinny_wide(const skinny_wide_t *s);
