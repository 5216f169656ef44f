/* Mixtures over the labels of a field: what an example's domain is, is asked of the model itself (DEMix, Gururangan et
 * al. 2021, section 5). One forward pass for every label j gives p_j, and
 *   p(x_t | x_<t) = sum_j P(j | x_<t) p_j(x_t | x_<t),
 *   P(j | x_<t) = 1/n                                              (uniform)
 *   P(j | x_<t) ~ 1/n p_j(x_<t) = 1/n prod_{i<t} p_j(x_i | x_<i)    (posterior, over the whole history).
 * The history is that of the sequence, tokens without weight (a prompt) included. Sums are in double, in log space. */
#pragma once
#include "data/batch.h"
#include "train/comm/comm.h"
#include "train/run/loaded.h"
#include "train/run/micro.h"

typedef enum mixture_kind { MIXTURE_NONE, MIXTURE_UNIFORM, MIXTURE_POSTERIOR, MIXTURE_KINDS } mixture_kind_t;

/* ST_USAGE for another name; NULL is MIXTURE_NONE. *local* */
status_t mixture_find(const char *name, mixture_kind_t *out);
/* The field to mix over: the only one of the layout that label[] leaves open. Examples need not name it afterwards.
 * ST_USAGE when there is none or several. *local* */
status_t mixture_field(virtual_layout_t *v, const int32_t *label, int *field);

typedef struct mixture {
    const loaded_t *loaded;
    mixture_kind_t kind;
    int field, labels; /* n */
    int64_t capacity;  /* tokens of a batch, virtual ones counted */
    build_t build;
    batch_t batch;
    float *ones;       /* [capacity] the weight of every token */
    float *nll;        /* [labels, capacity] by label and row of the batch */
    double *posterior; /* [labels] logarithms while a sequence is summed up */
} mixture_t;

/* A forward-only tape. Zeroed `out`; release it also after a failure. *local* */
status_t mixture_open(loaded_t *l, mixture_kind_t kind, int field, int64_t capacity, mixture_t *out);
void mixture_close(mixture_t *m);
/* Runs n sequences that fit the capacity together, under every label. *local* */
status_t mixture_run(mixture_t *m, const sequence_t *s, int64_t n);
/* For the sequences of the last run: -log p of the tokens 1 .. len - 1 into nll[], whose rows begin at `row` (the sum
 * of len - 1 of those before it). Afterwards `posterior` has P(j | the whole sequence), of both kinds. *local* */
void mixture_sequence(mixture_t *m, int64_t row, int64_t len, float *nll);

typedef struct mixture_result {
    double loss, weight; /* mean per weighted token; sum of weights */
    int64_t tokens;
    double *posterior; /* [labels] mean over the sequences of P(j | the whole sequence); the caller frees */
} mixture_result_t;

/* Over a data set whose sequences are dealt to the ranks by micro-batch; the same bits on any number of ranks.
 * *collective* */
status_t mixture_evaluate(mixture_t *m, const dataset_t *d, comm_t *comm, mixture_result_t *out);
