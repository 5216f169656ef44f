/* A residual and the norm behind it, bit for bit what add and layernorm give one after the other: s = a + b, rounded as
 * it is stored, and y = (s - mean) * rstd * w + bias (kernels/ops/layernorm.h).
 * Backward: with the gradients of both outputs, ds' = ds + (what layernorm's backward makes of dy), da = db = ds';
 * dw and dbias are layernorm's. One of ds and dy may be absent.
 * in: a, b of one shape [N,d], w, bias [d]; out: s, y [N,d], stat [N,2] = (mean, rstd). s in place on a; a's gradient
 * may share ds's buffer. Attributes: layernorm_attr_t. */
#pragma once
enum { ADD_LAYERNORM_A, ADD_LAYERNORM_B, ADD_LAYERNORM_W, ADD_LAYERNORM_BIAS };
enum { ADD_LAYERNORM_S, ADD_LAYERNORM_Y, ADD_LAYERNORM_STAT };
