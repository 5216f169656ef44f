/* What a step does with flat float vectors besides the tape: summing gradients, clipping, updating weights. One table a
 * backend; vectors, tables and scalars are in the memory of `d` (NULL: the host). Nothing waits and nothing is
 * allocated: what the host would have to know (the norm, whether it is a number) stays where the vectors are, and
 * kernels act on it. Sums have a fixed order that depends on lengths alone. *local* */
#pragma once
#include <stdint.h>
#include "kernels/device.h"
#include "kernels/view.h"

enum { VECTOR_BLOCK = 4096 }; /* numbers that are summed as one, and most numbers of a tile */

static inline int64_t vector_blocks(int64_t n) {
    return (n + VECTOR_BLOCK - 1) / VECTOR_BLOCK;
}

/* The numbers of one update. */
typedef struct vector_step {
    double scale;                    /* of the gradient: 1 / the step's weight */
    double max_norm;                 /* 0: no clipping */
    double rate;                     /* of learning */
    double correction1, correction2; /* 1 - beta1^step, 1 - beta2^step */
} vector_step_t;

/* What the gradient turned out to be. Starts as zeroes. */
typedef struct vector_outcome {
    double norm; /* of the scaled gradient, before clipping */
    double clip; /* the factor of clipping, at most 1 */
    int64_t bad; /* how many updates had a norm that is no number; from the first on nothing is updated any more */
} vector_outcome_t;

/* At most VECTOR_BLOCK consecutive numbers of the flat vector that are of one tensor. */
typedef struct vector_tile {
    float *x;        /* their weights */
    int64_t at;      /* the place of the first one in the gradient */
    int64_t n;       /* how many */
    double lr_scale; /* of the tensor's rate */
    int64_t decay;   /* 1: weight decay applies */
} vector_tile_t;

/* AdamW over the elements first ... of a flat vector. */
typedef struct vector_adamw {
    const vector_tile_t *tile; /* [n_tile] */
    int64_t n_tile, first;
    float *exp_avg, *exp_avg_sq; /* of element first and on */
    double beta1, beta2, epsilon, weight_decay;
} vector_adamw_t;

typedef struct vector_calls {
    /* y += x */
    void (*add)(device_t *d, float *y, const float *x, int64_t n);
    /* to = x in type `to_type`, which is float or bfloat16. */
    void (*convert)(device_t *d, void *to, dtype_t to_type, const float *x, int64_t n);
    /* g[0] = NaN when one of n losses is no finite number, so that every rank sees it in the sum of gradients. */
    void (*taint)(device_t *d, float *g, const double *loss, int64_t n);
    /* partial[b] = the squares of scale * g in block b of vector_blocks(n), summed in double. */
    void (*squares)(device_t *d, const float *g, int64_t n, const vector_step_t *step, double *partial);
    /* *sum = the n sums of `partial`, added. */
    void (*sum)(device_t *d, const double *partial, int64_t n, double *sum);
    /* The norm whose square is the n sums of `partial`, and what follows from it. */
    void (*norm)(device_t *d, const double *partial, int64_t n, const vector_step_t *step, vector_outcome_t *out);
    /* One update with clip * (scale * g), g being the whole vector; nothing at all when out->bad. */
    void (*adamw)(device_t *d, const vector_adamw_t *a, const float *g, const vector_step_t *step,
                  const vector_outcome_t *out);
} vector_calls_t;

extern const vector_calls_t vector_cpu;
