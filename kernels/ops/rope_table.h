/* Angles of rotary position embedding (Su et al. 2021): out[n, i] = cos(pos[n] * inv_freq[i]),
 * out[n, h + i] = sin(...), i < h = dim/2. The float version multiplies in float, as transformers does.
 * in: positions [N] i32; out: table [N, dim]. No gradient. */
#pragma once
#include <stdint.h>
#include "kernels/view.h"
enum { ROPE_TABLE_POSITIONS };
typedef struct rope_table_attr {
    int64_t half;           /* dim / 2 */
    const double *inv_freq; /* [half], lives as long as the tape */
    dtype_t real;           /* dtype of the table */
} rope_table_attr_t;
