/* The output head and its loss without whole logits: z = h W^T, p = softmax(z), t = target[m],
 * nll[m] = -log p[m,t] = log(sum_v exp z[m,v]) - z[m,t]. The loss is a sum over rows, not a mean:
 *   weight[m] >= 0: weight * nll
 *   weight[m] <  0: |weight| * -log max(1 - p[m,t], 1e-20), unlikelihood (Welleck et al. 2019, equation 4; the floor is
 *                   the one of Korbak et al. 2023), so that t becomes less likely
 * In blocks of rows and tokens, so that whole logits are nowhere. Backward, with dz[m,v] below: dh = dz W, dW = dz^T h.
 *   weight[m] >= 0: dz = dloss * weight * (p[m,v] - [v = t])
 *   weight[m] <  0: dz = dloss * |weight| * p[m,t] / (1 - p[m,t]) * ([v = t] - p[m,v]); 0 where the floor applies
 * 1 - p[m,t] is summed over the other tokens, never subtracted, so it keeps its digits where p[m,t] is near 1.
 * With T, rows first .. first+k of W are trained apart from the others: T is those rows (the same memory), and dT their
 * part of dW; the forward pass does not read it.
 * The CPU version makes dh in the forward pass while a block's logits are at hand and keeps it in out[1].
 * in: h [M,d], W [V,d], targets [M] i32 (0 <= t < V), weights [M] f32, T [k,d] optional
 * out: loss [1] f64 always, dh [M,d] = d loss/d h at dloss = 1, nll [M] f32, for rows of either sign. M = 0 gives loss
 * 0. gout: [1] f64. */
#pragma once
#include <math.h>
#include <stdint.h>
#include "kernels/host_device.h"

enum { LCE_H, LCE_W, LCE_TARGETS, LCE_WEIGHTS, LCE_T };
enum { LCE_LOSS, LCE_DH, LCE_NLL };
typedef struct linear_cross_entropy_attr {
    int64_t first; /* row of W that is T's first; of no meaning without T */
} linear_cross_entropy_attr_t;

#define LCE_FLOOR 1e-20 /* of 1 - p */

/* 1 - p of a target whose negative log-likelihood is nll. */
static inline HOST_DEVICE double lce_rest(double nll) {
    return -expm1(-nll);
}
