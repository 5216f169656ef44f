/* A linear layer with its optional bias and its optional LoRA pair. */
#include <stdio.h>
#include <stdlib.h>
#include "tests/oracle/oracle_parts.h"

static const oracle_tensor_t *part(const oracle_weights_t *w, const oracle_linear_t *l, const char *suffix,
                                   int64_t count, bool must_exist) {
    char name[256];
    snprintf(name, sizeof name, "%s%s", l->module, suffix);
    return must_exist ? oracle_need(w, name, count) : oracle_find(w, name, count);
}

/* Where W[o][i] stands. */
static int64_t at(const oracle_linear_t *l, int64_t o, int64_t i) {
    return l->conv1d ? i * l->out + o : o * l->in + i;
}

/* The pair of this linear; its rank, or 0 if there is none. */
static int64_t find_pair(const oracle_weights_t *w, const oracle_linear_t *l, const oracle_tensor_t **a,
                         const oracle_tensor_t **b) {
    *a = part(w, l, ".lora_A.weight", -1, false);
    if (!*a) return 0;
    if ((*a)->count % l->in) oracle_fail("size is not a multiple of the linear's input", (*a)->name);
    int64_t rank = (*a)->count / l->in;
    *b = part(w, l, ".lora_B.weight", l->out * rank, true);
    return rank;
}

/* u = x A^T, [n, rank] */
static void down(const double *a, const double *x, int64_t n, int64_t in, int64_t rank, double *u) {
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < rank; j++) {
            double sum = 0;
            for (int64_t i = 0; i < in; i++) sum += a[j * in + i] * x[t * in + i];
            u[t * rank + j] = sum;
        }
}

void oracle_linear(const oracle_weights_t *w, const oracle_linear_t *l, const double *x, int64_t n, double *y) {
    const oracle_tensor_t *weight = part(w, l, ".weight", l->out * l->in, true), *a, *b;
    const oracle_tensor_t *bias = l->bias ? part(w, l, ".bias", l->out, true) : NULL;
    for (int64_t t = 0; t < n; t++)
        for (int64_t o = 0; o < l->out; o++) {
            double sum = bias ? bias->value[o] : 0;
            for (int64_t i = 0; i < l->in; i++) sum += weight->value[at(l, o, i)] * x[t * l->in + i];
            y[t * l->out + o] = sum;
        }
    int64_t rank = find_pair(w, l, &a, &b);
    if (!rank) return;
    double *u = oracle_zeros(n, rank);
    down(a->value, x, n, l->in, rank, u);
    for (int64_t t = 0; t < n; t++)
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t j = 0; j < rank; j++) y[t * l->out + o] += a->scale * b->value[o * rank + j] * u[t * rank + j];
    free(u);
}

/* With u = x A^T and y += scale * u B^T:  du = scale * dy B,  dB = scale * dy^T u,  dA = du^T x,  dx += du A. */
static void pair_backward(const oracle_tensor_t *a, const oracle_tensor_t *b, const oracle_linear_t *l, int64_t rank,
                          const double *x, const double *dy, int64_t n, double *dx) {
    double *u = oracle_zeros(n, rank), *du = oracle_zeros(n, rank);
    down(a->value, x, n, l->in, rank, u);
    for (int64_t t = 0; t < n; t++)
        for (int64_t o = 0; o < l->out; o++)
            for (int64_t j = 0; j < rank; j++) {
                double g = a->scale * dy[t * l->out + o];
                du[t * rank + j] += g * b->value[o * rank + j];
                if (b->grad) b->grad[o * rank + j] += g * u[t * rank + j];
            }
    for (int64_t t = 0; t < n; t++)
        for (int64_t j = 0; j < rank; j++)
            for (int64_t i = 0; i < l->in; i++) {
                dx[t * l->in + i] += du[t * rank + j] * a->value[j * l->in + i];
                if (a->grad) a->grad[j * l->in + i] += du[t * rank + j] * x[t * l->in + i];
            }
    free(u);
    free(du);
}

void oracle_linear_backward(const oracle_weights_t *w, const oracle_linear_t *l, const double *x, const double *dy,
                            int64_t n, double *dx) {
    const oracle_tensor_t *weight = part(w, l, ".weight", l->out * l->in, true), *a, *b;
    const oracle_tensor_t *bias = l->bias ? part(w, l, ".bias", l->out, true) : NULL;
    for (int64_t t = 0; t < n; t++)
        for (int64_t o = 0; o < l->out; o++) {
            double g = dy[t * l->out + o];
            if (bias && bias->grad) bias->grad[o] += g;
            for (int64_t i = 0; i < l->in; i++) {
                dx[t * l->in + i] += g * weight->value[at(l, o, i)];
                if (weight->grad) weight->grad[at(l, o, i)] += g * x[t * l->in + i];
            }
        }
    int64_t rank = find_pair(w, l, &a, &b);
    if (rank) pair_backward(a, b, l, rank, x, dy, n, dx);
}
