/* The output head and its loss without whole logits: z = h W^T, nll[m] = log(sum_v exp z[m,v]) - z[m, target[m]],
 * loss = sum_m weight[m] * nll[m] (a sum, not a mean). In chunks of rows; a chunk's logits live in scratch.
 * Backward: dz[m,v] = dloss * weight[m] * (softmax(z)[m,v] - [v = target[m]]), dh = dz W, dW = dz^T h.
 * With T, rows first .. first+k of W are trained apart from the others: T is those rows (the same memory), and dT their
 * part of dW; the forward pass does not read it.
 * The CPU version makes dh in the forward pass while the chunk's logits are at hand and keeps it in out[1].
 * in: h [M,d], W [V,d], targets [M] i32 (0 <= t < V), weights [M] f32, T [k,d] optional
 * out: loss [1] f64 always, dh [M,d] = d loss/d h at dloss = 1, nll [M] f32. M = 0 gives loss 0. gout: [1] f64. */
#pragma once
#include <stdint.h>
enum { LCE_H, LCE_W, LCE_TARGETS, LCE_WEIGHTS, LCE_T };
enum { LCE_LOSS, LCE_DH, LCE_NLL };
typedef struct linear_cross_entropy_attr {
    int64_t first; /* row of W that is T's first; of no meaning without T */
} linear_cross_entropy_attr_t;
