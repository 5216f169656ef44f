/* Mean loss over a data set, dealt to the ranks by micro-batch; the same bits on any number of ranks. */
#pragma once
#include "data/batch.h"
#include "train/comm/comm.h"
#include "train/run/loaded.h"
#include "train/run/micro.h"

typedef struct evaluation {
    double loss, weight; /* mean per weighted token; sum of weights */
    int64_t tokens;
} evaluation_t;

typedef struct evaluator {
    build_t build;
    batch_t batch;
    micro_plan_t plan;
    int64_t *sequences;
    double *sums; /* [2, micro-batches] */
    const dataset_t *data;
} evaluator_t;

/* A forward-only tape for micro-batches of at most `capacity` tokens. *local* */
status_t evaluator_open(loaded_t *l, const dataset_t *d, packing_t kind, int64_t capacity, evaluator_t *e);
void evaluator_close(evaluator_t *e);
/* *collective*. `stop` may be NULL; when it becomes non-zero on any rank the evaluation ends early with *stopped set.
 */
status_t evaluator_run(evaluator_t *e, comm_t *comm, const volatile int *stop, bool *stopped, evaluation_t *out);
