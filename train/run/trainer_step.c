#include <string.h>
#include <time.h>
#include "train/run/sharding.h"
#include "train/run/trainer.h"

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static status_t stats_reserve(trainer_t *t, int64_t n_micro) {
    void *stats = t->micro_stats;
    TRY(buf_reserve(&stats, &t->cap_stats, 2 * n_micro, sizeof *t->micro_stats, "step sums"));
    t->micro_stats = stats;
    return ST_OK;
}

/* The step's sequences and micro-batches: the same on every rank. */
static status_t plan_step(trainer_t *t) {
    TRY(stream_step(t->now->stream, t->place, &t->step_sequences));
    if (!t->step_sequences.n) return ST_OK;
    TRY(micro_plan(&t->plan, t->now->data, t->step_sequences.sequences, t->step_sequences.n,
                   (packing_t)t->now->config->data.packing, t->now->capacity));
    TRY(stats_reserve(t, t->plan.pack.n_micro));
    memset(t->micro_stats, 0, (size_t)(2 * t->plan.pack.n_micro) * sizeof *t->micro_stats);
    return ST_OK;
}

static status_t run_micro(trainer_t *t, int64_t m, float *grad) {
    TRY(micro_fill(&t->plan, t->now->data, t->step_sequences.sequences, t->step_sequences.first, m, &t->batch));
    comm_beat(t->comm, "forward and backward");
    micro_load(&t->now->build, &t->batch);
    tape_set_step(t->now->build.tape, (op_step_t){(uint64_t)t->config->training.seed, (uint64_t)t->step, true});
    tape_set_grad(t->now->build.tape, grad);
    TRY(micro_forward(&t->now->build, &t->micro_stats[2 * m]));
    t->micro_stats[2 * m + 1] = t->batch.weight_sum;
    tape_backward(t->now->build.tape);
    return ST_OK;
}

static status_t gradients_canonical(trainer_t *t) {
    int64_t n = t->plan.pack.n_micro, lo, hi;
    status_t st = tree_begin(t->tree, n);
    tree_share(n, comm_size(t->comm), comm_rank(t->comm), &lo, &hi);
    for (int64_t m = lo; m < hi && st == ST_OK; m++) {
        st = run_micro(t, m, tree_leaf(t->tree));
        tree_push(t->tree);
    }
    TRY(comm_agree(t->comm, st));
    comm_beat(t->comm, "gradient reduction");
    tree_finish(t->tree, t->grad);
    return ST_OK;
}

static status_t gradients_fast(trainer_t *t) {
    int64_t n = t->loaded.model.params.n_trainable, lo, hi;
    status_t st = ST_OK;
    device_zero(t->compute.device, t->grad, (size_t)n * sizeof *t->grad);
    tree_share(t->plan.pack.n_micro, comm_size(t->comm), comm_rank(t->comm), &lo, &hi);
    for (int64_t m = lo; m < hi && st == ST_OK; m++) st = run_micro(t, m, t->grad);
    TRY(comm_agree(t->comm, st));
    comm_beat(t->comm, "gradient reduction");
    comm_data_allreduce(t->vectors, t->grad, n);
    comm_data_join(t->vectors);
    return ST_OK;
}

static status_t history_reserve(trainer_t *t, int64_t steps) {
    void *h = t->history;
    TRY(buf_reserve(&h, &t->cap_history, 4 * (t->n_history + steps), sizeof *t->history, "history"));
    t->history = h;
    return ST_OK;
}

status_t trainer_step_reserve(trainer_t *t) {
    int64_t n = 0, left = t->schedule.total - t->step;
    for (int i = 0; i < t->n_stage; i++) {
        int64_t most = stream_step_most(t->stage[i].stream);
        if (most > n) n = most;
    }
    TRY(stream_step_reserve(&t->step_sequences, n));
    TRY(micro_plan_reserve(&t->plan, n, t->batch.capacity));
    TRY(stats_reserve(t, n));
    /* pages that no step fills are never touched; beyond a million steps the history grows now and then */
    return history_reserve(t, left < 1 << 20 ? left + 1 : 1 << 20);
}

static status_t remember(trainer_t *t, const step_result_t *r) {
    TRY(history_reserve(t, 1));
    double *row = t->history + 4 * t->n_history++;
    row[0] = (double)t->step;
    row[1] = r->loss;
    row[2] = r->grad_norm;
    row[3] = r->learning_rate;
    return ST_OK;
}

/* Every rank has the same sums here, so all decide alike without another message. */
static status_t update(trainer_t *t, step_result_t *r) {
    const config_training_t *c = &t->config->training;
    int64_t n = t->plan.pack.n_micro;
    double loss = 0, weight = 0;
    for (int64_t m = 0; m < n; m++) {
        loss += t->micro_stats[2 * m];
        weight += t->micro_stats[2 * m + 1];
    }
    r->loss = loss / weight;
    r->learning_rate = c->learning_rate * schedule_factor(&t->schedule, t->step);
    t->sum_loss = loss;
    device_upload(t->compute.device, t->loss_at, &t->sum_loss, sizeof t->sum_loss);
    t->optim.vector->taint(t->optim.device, t->grad, t->loss_at, 1);
    adamw_update(&t->optim, t->grad, 1.0 / weight, c->max_grad_norm, r->learning_rate);
    TRY(device_sync(t->compute.device, "update of the weights"));
    const vector_outcome_t *outcome = adamw_outcome(&t->optim, t->optim.step);
    r->grad_norm = outcome->norm;
    if (outcome->bad)
        return st_raise(
            ST_NUMERIC, "training",
            "step %lld has loss %g and gradient norm %g; nothing was updated; lower learning_rate or look at its data",
            (long long)(t->step + 1), r->loss, r->grad_norm);
    for (int64_t i = 0; i < t->step_sequences.n; i++)
        r->tokens += t->plan.lengths[i] - dataset_virtual_tokens(t->now->data);
    t->step++;
    t->tokens += r->tokens;
    t->place += t->step_sequences.n;
    return remember(t, r);
}

status_t trainer_step(trainer_t *t, step_result_t *r, bool *ended) {
    double began = now();
    *r = (step_result_t){0};
    *ended = false;
    t->now = stage_of_step(t->stage, t->n_stage, t->step);
    TRY(comm_agree(t->comm, plan_step(t)));
    if (!t->step_sequences.n) {
        *ended = true;
        return ST_OK;
    }
    TRY(t->tree ? gradients_canonical(t) : gradients_fast(t));
    TRY(comm_sum_f64(t->comm, t->micro_stats, 2 * t->plan.pack.n_micro));
    TRY(comm_agree(t->comm, update(t, r)));
    if (t->optim.is_share) sharding_publish(t->vectors, &t->loaded.model.params);
    r->seconds = now() - began;
    return ST_OK;
}
