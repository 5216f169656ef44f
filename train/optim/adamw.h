/* AdamW (Loshchilov & Hutter 2019, alg. 2) over the trainable blob, with the arithmetic of torch.optim.AdamW: decoupled
 * decay, bias correction, epsilon outside the root; before it clipping by global norm as torch's clip_grad_norm_.
 * Elementwise, so it has the same bits on every rank that has the same gradient.
 *
 * The state is where the gradient is. On a device everything goes into the queue and nothing waits; a gradient whose
 * norm is no number leaves weights and state as they were, then and ever after, and the host learns of it from
 * adamw_outcome when it gets to it. *local* */
#pragma once
#include <stdint.h>
#include "kernels/status.h"
#include "kernels/vector.h"
#include "train/tape/param.h"

enum {
    ADAMW_SLOTS = 2,  /* updates whose numbers the host keeps */
    ADAMW_APART = 16, /* numbers from the square of one share to that of the next: 128 bytes */
};

typedef struct adamw {
    const vector_calls_t *vector;
    device_t *device;   /* NULL: the host */
    vector_adamw_t own; /* state and tiles, in the device's memory */
    int64_t first, n;   /* the elements of the trainable blob that have a state here */
    int64_t n_all;      /* of the blob */
    bool is_share;
    int64_t step;       /* updates done */
    int n_share, share; /* how many shares there are, and which one this is */
    double *partial;
    double *squares;           /* [n_share, ADAMW_APART], the first of each row of a share's gradient, then zeroes */
    vector_step_t *now;        /* of the present update, in the device's memory */
    vector_outcome_t *outcome; /* likewise */
    vector_step_t *sent;       /* [ADAMW_SLOTS], the host's */
    vector_outcome_t *seen;    /* [ADAMW_SLOTS], the host's */
} adamw_t;

typedef struct adamw_options {
    double beta1, beta2, epsilon, weight_decay;
    bool is_share;    /* only the elements first .. first + n have a state and are updated (ZeRO-1, Rajbhandari 2020) */
    int64_t first, n; /* of a share */
    int n_share, share;
} adamw_options_t;

/* For the trainable tensors of `params`, which must be allocated and placed and stay where they are; *vector is of the
 * backend that they are placed for. Close also after a failure.
 */
status_t adamw_open(const vector_calls_t *vector, const param_set_t *params, const adamw_options_t *o, adamw_t *out);
void adamw_close(adamw_t *a);
/* One update with scale * grad, the whole blob, clipped to max_norm (0: not at all); each tensor's rate is lr times its
 * lr_scale. */
void adamw_update(adamw_t *a, const float *grad, double scale, double max_norm, double lr);
/* One update in two parts when each share's gradient is somewhere else and the rest of `grad` has no meaning. The first
 * leaves the squares of this share in a->squares; when those of all others are there, too, the second clips and
 * updates. */
void adamw_measure(adamw_t *a, const float *grad, double scale, double max_norm, double lr);
void adamw_apply(adamw_t *a, const float *grad);
/* What update `step` (one of the last ADAMW_SLOTS) found; valid after a wait behind it. */
const vector_outcome_t *adamw_outcome(const adamw_t *a, int64_t step);
/* The state, n numbers each, in the host's memory; waits. */
status_t adamw_fetch(const adamw_t *a, float *exp_avg, float *exp_avg_sq);
/* Sets the state of n elements of the blob from `at` on, all in the share. The host's numbers stay unchanged until a
 * wait. */
void adamw_load(adamw_t *a, int64_t at, int64_t n, const float *exp_avg, const float *exp_avg_sq);
