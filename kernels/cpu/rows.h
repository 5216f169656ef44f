/* Rows of a table by number, and their gradients summed back into it: what embedding, gather_rows and splice share.
 * Row n meets row r = index[n] - first of the table where 0 <= r < count, in columns [col, col + d). *local* */
#pragma once
#include "kernels/cpu/cpu.h"

typedef struct cpu_rows {
    const int32_t *index;
    int64_t n, first, count; /* rows; numbers that the table answers to */
    int64_t d, width, col;   /* length of a row outside and in the table */
} cpu_rows_t;

/* The row of the table for row n, -1: none. */
static inline int64_t cpu_rows_at(const cpu_rows_t *r, int64_t n) {
    int64_t row = (int64_t)r->index[n] - r->first;
    return row >= 0 && row < r->count ? row : -1;
}

/* Every row n that has a row in the table. */
void cpu_rows_take(const cpu_rows_t *r, const float *table, float *y);

/* dtable[r, col + i] += dy[n, i], in the order n = 0, 1, ... for every number; with acc false the whole table of
 * `table_rows` rows is zeroed before. */
void cpu_rows_put(const cpu_rows_t *r, const float *dy, bool acc, int64_t table_rows, float *dtable);
