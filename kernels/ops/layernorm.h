/* LayerNorm (Ba et al. 2016): y = (x - mean) * rstd * w + b, biased variance, rstd[n] = 1/sqrt(var + eps).
 * Backward, xhat = (x-mean)*rstd, g = dy*w: dx = rstd*(g - mean_d(g) - xhat*mean_d(g*xhat)), dw = sum_n dy*xhat, db =
 * sum_n dy. in: x [N,d], w [d], b [d]; out: y [N,d], stat [N,2] = (mean, rstd). */
#pragma once
enum { LAYERNORM_X, LAYERNORM_W, LAYERNORM_B };
enum { LAYERNORM_Y, LAYERNORM_STAT };
typedef struct layernorm_attr {
    double eps;
} layernorm_attr_t;
