/* A matrix product over all threads, and sums of columns. Bits depend on the shapes alone. *local* */
#pragma once
#include "kernels/cpu/cpu.h"

/* C[rows,cols] = op(A) op(B) (+ C), cut in tiles; every tile is one GEMM over the whole inner length. */
typedef struct cpu_product {
    char ta, tb;
    const float *a, *b;
    float *c;
    const float *bias; /* added to every row, or NULL */
    int64_t rows, cols, inner, lda, ldb, ldc;
    bool acc;
} cpu_product_t;
void cpu_product(const cpu_product_t *p, int64_t tile_rows);

/* sums[j] = (acc ? sums[j] : 0) + sum over n of x[n,j], in double. */
void cpu_column_sums(const float *x, int64_t rows, int64_t cols, bool acc, float *sums);
