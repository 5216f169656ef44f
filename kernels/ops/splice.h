/* Puts rows of a table into a tensor: virtual tokens among embeddings, prefix rows of a layer's keys or values.
 * With r = index[n] - first: y[n,:] = T[r, col : col+D] where 0 <= r < count, else x[n,:] (0 without x). Several tables
 * are spliced one after the other, each with its own numbers [first, first+count).
 * Backward: dT[r, col : col+D] += dy[n,:] summed in the order n = 0, 1, ..., columns outside stay as they are; dx[n,:]
 * is dy[n,:], and 0 in spliced rows.
 * in: x [N,D] optional, T [R,W] (count <= R, col + D <= W), index [N] i32; out: y [N,D] */
#pragma once
#include <stdint.h>
enum { SPLICE_X, SPLICE_T, SPLICE_INDEX };
typedef struct splice_attr {
    int32_t first, count; /* numbers that this table answers to */
    int64_t col, width;   /* width: D */
} splice_attr_t;
