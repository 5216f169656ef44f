/* Advantage-weighted regression (Peng et al. 2019, as Korbak et al. 2023, section 2, use it): a value head beside the
 * output head, and the weights that it gives to the tokens' losses.
 *   V[m] = -sigmoid(v . h[m])     A[m] = reward[m] - V[m]     omega[m] = min(exp(A[m] / beta), 1000)
 *   loss = (1 - alpha) sum_m weight[m] (reward[m] - V[m])^2, a sum
 *   weighted[m] = alpha omega[m] weight[m], for linear_cross_entropy: a number, through which no gradient flows
 * Backward: du[m] = -2 dloss (1 - alpha) weight[m] (reward[m] - V[m]) V[m] (1 + V[m]); dh[m] = du[m] v, dv = sum_m
 * du[m] h[m].
 * in: h [M,d], v [d], reward [M] f32, weights [M] f32
 * out: loss [1] f64 always, weighted [M] f32, V [M] f32. M = 0 gives loss 0. gout: [1] f64. */
#pragma once
enum { VALUE_WEIGHT_H, VALUE_WEIGHT_V, VALUE_WEIGHT_REWARD, VALUE_WEIGHT_WEIGHTS };
enum { VALUE_WEIGHT_LOSS, VALUE_WEIGHT_WEIGHTED, VALUE_WEIGHT_VALUE };

#define VALUE_WEIGHT_MOST 1000.0 /* of omega */

typedef struct value_weight_attr {
    double alpha, beta;
} value_weight_attr_t;
