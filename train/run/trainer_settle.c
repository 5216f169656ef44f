/* What steps came to: losses, norms, reports, the history. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include "train/run/trainer.h"

double trainer_now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

status_t trainer_history_reserve(trainer_t *t, int64_t steps) {
    void *h = t->history;
    TRY(buf_reserve(&h, &t->cap_history, 4 * (t->n_history + steps), sizeof *t->history, "history"));
    t->history = h;
    return ST_OK;
}

static status_t remember(trainer_t *t, const step_result_t *r) {
    TRY(trainer_history_reserve(t, 1));
    double *row = t->history + 4 * t->n_history++;
    row[0] = (double)r->step;
    row[1] = r->loss;
    row[2] = r->grad_norm;
    row[3] = r->learning_rate;
    return ST_OK;
}

/* Both losses of a micro-batch become one; sums over ranks have one contributor each. */
static status_t sum_losses(trainer_t *t, step_result_t *r) {
    double *loss = t->losses[r->step % TRAINER_QUEUED], sum = 0;
    for (int64_t m = 0; m < r->n_micro; m++) loss[m] = loss[2 * m] + loss[2 * m + 1];
    TRY(comm_sum_f64(t->comm, loss, r->n_micro));
    for (int64_t m = 0; m < r->n_micro; m++) sum += loss[m];
    r->loss = sum / r->weight;
    r->bad_micro = -1;
    for (int64_t m = r->n_micro - 1; m >= 0; m--)
        if (!isfinite(loss[m])) r->bad_micro = m;
    return ST_OK;
}

/* A NaN's sign says nothing, and processors and devices give it differently. */
static double plain(double x) {
    return isnan(x) ? (double)NAN : x;
}

/* Every rank has the same numbers here. */
static status_t check(const trainer_t *t, step_result_t *r) {
    const vector_outcome_t *outcome = adamw_outcome(&t->optim, r->step);
    r->grad_norm = outcome->norm;
    if (!outcome->bad) return ST_OK;
    char where[80] = "";
    if (r->bad_micro >= 0)
        snprintf(where, sizeof where, ", first in micro-batch %lld of %lld", (long long)r->bad_micro + 1,
                 (long long)r->n_micro);
    return st_raise(
        ST_NUMERIC, "training",
        "step %lld has loss %g%s and gradient norm %g; nothing was updated; lower learning_rate or look at its data",
        (long long)r->step, plain(r->loss), where, plain(r->grad_norm));
}

static status_t report(trainer_t *t, const step_result_t *r) {
    const metrics_step_t row = {
        r->step, r->total_tokens, r->loss, r->grad_norm, r->learning_rate, (double)r->tokens / r->seconds, r->seconds};
    TRY(remember(t, r));
    return t->reporter ? reporter_step(t->reporter, &row, r->step == t->schedule.total) : ST_OK;
}

/* Reports are rank 0's; a failure of one must reach all before they go on. */
static status_t settle(trainer_t *t, step_result_t *r) {
    TRY(comm_agree(t->comm, device_wait(t->optim.device, trainer_mark(r->step), "training step")));
    comm_data_check(t->vectors);
    TRY(sum_losses(t, r));
    TRY(comm_agree(t->comm, check(t, r)));
    double now = trainer_now();
    r->seconds = now - (t->settled > r->began ? t->settled : r->began);
    t->settled = now;
    return comm_agree(t->comm, report(t, r));
}

status_t trainer_settle(trainer_t *t, int keep) {
    while (t->n_queued > keep) {
        step_result_t oldest = t->queue[0];
        t->n_queued--;
        memmove(t->queue, t->queue + 1, (size_t)t->n_queued * sizeof *t->queue);
        status_t st = settle(t, &oldest);
        if (st != ST_OK) t->n_queued = 0; /* what comes after a failure is not reported */
        TRY(st);
    }
    return ST_OK;
}
