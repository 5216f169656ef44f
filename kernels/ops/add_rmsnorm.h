/* A residual and the norm behind it, bit for bit what add and rmsnorm give one after the other: s = a + b, rounded as
 * it is stored, and y = s * rstd * w (kernels/ops/rmsnorm.h). Backward: with the gradients of both outputs, ds' = ds +
 * (what rmsnorm's backward makes of dy), da = db = ds'; dw = sum_n dy * s * rstd. One of ds and dy may be absent. in:
 * a, b of one shape [N,d], w [d]; out: s, y [N,d], rstd [N]. s in place on a; a's gradient may share ds's buffer.
 * Attributes: rmsnorm_attr_t. */
#pragma once
enum { ADD_RMSNORM_A, ADD_RMSNORM_B, ADD_RMSNORM_W };
enum { ADD_RMSNORM_S, ADD_RMSNORM_Y, ADD_RMSNORM_RSTD };
