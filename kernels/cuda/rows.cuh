/* Rows of a table by number, and their gradients summed back into it: what embedding, gather_rows and splice share. Row
 * n meets row r = index[n] - first of the table where 0 <= r < count, in columns [col, col + d).
 *
 * The sums have the order n = 0, 1, ... for every row of the table, in float, rounded once when they are stored. To
 * have it without atomic adds and without looking at all numbers for every row, (number, n) pairs are sorted: tiles in
 * shared memory, then merges of runs of doubled length, each pair finding its place by bisection, O(n log^2 n) in all
 * and log2(n / 512) small launches. Then the blocks of a row find its pairs side by side. */
#pragma once
#include "kernels/cuda/pieces.cuh"

typedef struct row_map {
    const int32_t *index;
    int64_t n, first, count; /* rows; numbers that the table answers to */
    int64_t d, width, col;   /* length of a row outside and in the table */
} row_map_t;

/* The row of the table for row n, -1: none. */
__device__ __forceinline__ int64_t row_map_at(const row_map_t &m, int64_t n) {
    int64_t row = (int64_t)m.index[n] - m.first;
    return row >= 0 && row < m.count ? row : -1;
}

/* Scratch of rows_sum for n rows; grows with n. */
size_t rows_scratch(int64_t n);

/* y[n, :] = table[r, col : col + d] where there is an r; else x[n, :], or 0 without x. y has d columns and may be x. */
void rows_take(cudaStream_t stream, const row_map_t &m, const view_t *table, const view_t *x, const view_t *y);

/* dtable[r, col + i] += dy[n, i]; with acc false the whole table is overwritten: 0 in other rows and columns. */
void rows_sum(cudaStream_t stream, const row_map_t &m, const view_t *dy, void *scratch, bool acc, const view_t *dtable);
