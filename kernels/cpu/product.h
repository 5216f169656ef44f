/* A matrix product over all threads, and sums of columns. Bits depend on the shapes alone. *local* */
#pragma once
#include "kernels/cpu/cpu.h"

/* C[rows,cols] = op(A) op(B) (+ C). Where B is transposed, and rows are enough to make up for turning it, by the
 * kernels of gemm.h; else in tiles, each one GEMM of the library over the whole inner length. */
typedef struct cpu_product {
    char ta, tb;
    const float *a, *b;
    float *c;
    const float *bias; /* added to every row, or NULL; not with acc */
    int64_t rows, cols, inner, lda, ldb, ldc;
    bool acc;
    void *scratch; /* of cpu_product_scratch bytes, if ta = 'N' and tb = 'T' */
} cpu_product_t;
void cpu_product(const cpu_product_t *p, int64_t tile_rows);
size_t cpu_product_scratch(int64_t inner);

/* The same with ta = 'N' and tb = 'T' on the calling thread; scratch holds cpu_product_part(inner)
 * floats. */
void cpu_product_alone(const cpu_product_t *p);
int64_t cpu_product_part(int64_t inner);

/* sums[j] = (acc ? sums[j] : 0) + sum over n of x[n,j], in double. */
void cpu_column_sums(const float *x, int64_t rows, int64_t cols, bool acc, float *sums);
