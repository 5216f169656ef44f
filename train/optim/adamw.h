/* AdamW (Loshchilov & Hutter 2019, alg. 2) over the trainable blob, with the arithmetic of torch.optim.AdamW: decoupled
 * decay, bias correction, epsilon outside the root. Elementwise, so it has the same bits on every rank. *local* */
#pragma once
#include <stdint.h>
#include "kernels/status.h"
#include "train/tape/param.h"

typedef struct adamw {
    float *exp_avg, *exp_avg_sq; /* [n] of the elements first .. first + n of the trainable blob */
    int64_t first, n;
    int64_t step; /* updates done */
    double beta1, beta2, epsilon, weight_decay;
} adamw_t;

status_t adamw_open(const param_set_t *params, double beta1, double beta2, double epsilon, double weight_decay,
                    adamw_t *out);
/* The same for a part of the blob: only its elements have a state and are updated (ZeRO-1, Rajbhandari et al. 2020). */
status_t adamw_open_share(const param_set_t *params, int64_t first, int64_t n, double beta1, double beta2,
                          double epsilon, double weight_decay, adamw_t *out);
void adamw_close(adamw_t *a);
/* One update with the gradient blob `grad`, whole; each tensor's rate is lr times its lr_scale. */
void adamw_update(adamw_t *a, const param_set_t *params, const float *grad, double lr);

/* Multiplies g[n] by `scale`, then clips by global norm as torch's clip_grad_norm_ (max_norm 0: no clipping). Returns
 * the norm before clipping, summed in double over fixed blocks. */
double grad_scale_and_clip(float *g, int64_t n, double scale, double max_norm);
