/* y[n,:] = E[ids[n],:].  Backward: dE[ids[n],:] += dy[n,:], summed in the order n = 0, 1, ... for every row.
 * in:  E [V,d] real, ids [N] i32 (0 <= ids < V, checked when a batch is made)    out: y [N,d] */
#pragma once
#include "kernels/view.h"
enum { EMBEDDING_E, EMBEDDING_IDS };
typedef struct embedding_attr { /* NULL: y has the type of E */
    dtype_t real;               /* dtype of y: bfloat16 also where E is trained and float */
} embedding_attr_t;
