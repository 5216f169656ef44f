/* RMSNorm (Zhang & Sennrich 2019, eq. 4): y = x * rstd * w, rstd[n] = 1/sqrt(mean_d(x^2) + eps).
 * Backward, with g = dy * w:  dx = rstd * (g - x * rstd^2 * mean_d(g * x)),  dw = sum_n dy * x * rstd.
 * in: x [N,d], w [d]; out: y [N,d], rstd [N]. Sums over d in a fixed order; dw over n in a fixed order. */
#pragma once
enum { RMSNORM_X, RMSNORM_W };
enum { RMSNORM_Y, RMSNORM_RSTD };
typedef struct rmsnorm_attr {
    double eps;
} rmsnorm_attr_t;
