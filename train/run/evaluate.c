#include "train/run/evaluate.h"
#include <stdlib.h>
#include <string.h>

status_t evaluator_open(loaded_t *l, const dataset_t *d, packing_t kind, int64_t capacity, evaluator_t *e) {
    memset(e, 0, sizeof *e);
    e->data = d;
    int64_t n = dataset_sequences(d);
    void *p;
    TRY(buf_calloc(&p, n, sizeof *e->sequences, "evaluation order"));
    e->sequences = p;
    for (int64_t i = 0; i < n; i++) e->sequences[i] = i;
    TRY(micro_plan(&e->plan, d, e->sequences, n, kind, capacity));
    TRY(buf_calloc(&p, 2 * e->plan.pack.n_micro, sizeof *e->sums, "evaluation sums"));
    e->sums = p;
    TRY(micro_batch_init(&l->layout, capacity, &e->batch));
    build_options_t o = {.tail = TAIL_LOSS};
    micro_share(&l->layout, capacity, &o);
    return build_open(&l->model, loaded_backend(l), l->hook, l->n_method, o, &e->build);
}

void evaluator_close(evaluator_t *e) {
    build_close(&e->build);
    batch_release(&e->batch);
    micro_plan_release(&e->plan);
    free(e->sequences);
    free(e->sums);
    memset(e, 0, sizeof *e);
}

static status_t one(evaluator_t *e, int64_t m) {
    TRY(micro_fill(&e->plan, e->data, e->sequences, -1, m, &e->batch));
    micro_load(&e->build, &e->batch);
    TRY(micro_forward(&e->build, &e->sums[2 * m]));
    e->sums[2 * m + 1] = e->batch.weight_sum;
    return ST_OK;
}

status_t evaluator_run(evaluator_t *e, comm_t *comm, const volatile int *stop, bool *stopped, evaluation_t *out) {
    int64_t n = e->plan.pack.n_micro, size = comm_size(comm);
    memset(e->sums, 0, (size_t)(2 * n) * sizeof *e->sums);
    if (stopped) *stopped = false;
    for (int64_t m = 0; m < n; m += size) { /* one round: a micro-batch for every rank */
        int64_t mine = m + comm_rank(comm), flag = stop ? *stop : 0;
        comm_beat(comm, "evaluation");
        TRY(comm_agree(comm, mine < n ? one(e, mine) : ST_OK));
        TRY(comm_max_i64(comm, &flag, 1));
        if (flag && stopped) {
            *stopped = true;
            return ST_OK;
        }
    }
    TRY(comm_sum_f64(comm, e->sums, 2 * n));
    *out = (evaluation_t){0};
    for (int64_t m = 0; m < n; m++) {
        out->loss += e->sums[2 * m];
        out->weight += e->sums[2 * m + 1];
    }
    for (int64_t i = 0; i < dataset_sequences(e->data); i++) out->tokens += dataset_sequence_tokens(e->data, i);
    if (out->weight > 0) out->loss /= out->weight;
    return ST_OK;
}
