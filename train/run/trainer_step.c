#include <assert.h>
#include <string.h>
#include "train/run/sharding.h"
#include "train/run/trainer.h"

/* The step's sequences and micro-batches: the same on every rank. */
static status_t plan_step(trainer_t *t) {
    TRY(stream_step(t->now->stream, t->place, &t->step_sequences));
    if (!t->step_sequences.n) return ST_OK;
    TRY(micro_plan(&t->plan, t->now->data, t->step_sequences.sequences, t->step_sequences.n,
                   (packing_t)t->now->config->data.packing, t->now->capacity));
    assert(t->plan.pack.n_micro <= t->cap_micro);
    memset(t->weights, 0, (size_t)t->plan.pack.n_micro * sizeof *t->weights);
    device_zero(t->optim.device, t->loss_at, (size_t)(2 * t->plan.pack.n_micro) * sizeof *t->loss_at);
    return ST_OK;
}

/* Keeps a loss where it is; the host reads it when the step is over. */
static void keep_loss(trainer_t *t, val_t v, double *to) {
    if (v.id >= 0) device_copy(t->optim.device, to, tape_address(t->now->build.tape, v), sizeof *to);
}

/* Forward, and all that backward needs, whose gradients are added to grad. */
static status_t forward_micro(trainer_t *t, int64_t m, float *grad) {
    build_t *b = &t->now->build;
    TRY(micro_fill(&t->plan, t->now->data, t->step_sequences.sequences, t->step_sequences.first, m, &t->batch));
    comm_beat(t->comm, "forward and backward");
    micro_load(b, &t->batch);
    tape_set_step(b->tape, (op_step_t){(uint64_t)t->config->training.seed, (uint64_t)t->step, true});
    tape_set_grad(b->tape, grad);
    tape_forward(b->tape);
    keep_loss(t, b->loss, &t->loss_at[2 * m]);
    keep_loss(t, b->more_loss, &t->loss_at[2 * m + 1]);
    t->weights[m] = t->batch.weight_sum;
    t->optim.vector->taint(t->optim.device, grad, &t->loss_at[2 * m], 2);
    return ST_OK;
}

static status_t gradients_canonical(trainer_t *t) {
    int64_t n = t->plan.pack.n_micro, lo, hi;
    status_t st = tree_begin(t->tree, n);
    tree_share(n, comm_size(t->comm), comm_rank(t->comm), &lo, &hi);
    for (int64_t m = lo; m < hi && st == ST_OK; m++) {
        st = forward_micro(t, m, tree_leaf(t->tree));
        if (st == ST_OK) tape_backward(t->now->build.tape);
        tree_push(t->tree);
    }
    TRY(comm_agree(t->comm, st));
    comm_beat(t->comm, "gradient reduction");
    tree_finish(t->tree);
    return ST_OK;
}

static status_t gradients_fast(trainer_t *t) {
    int64_t lo, hi;
    status_t st = ST_OK;
    tape_t *tape = t->now->build.tape;
    device_zero(t->optim.device, t->grad, (size_t)t->loaded.model.params.n_trainable * sizeof *t->grad);
    tree_share(t->plan.pack.n_micro, comm_size(t->comm), comm_rank(t->comm), &lo, &hi);
    for (int64_t m = lo; m < hi && st == ST_OK; m++) {
        if (m > lo)
            tape_backward(tape); /* the last one's is below, as nothing after it fails before the next agreement */
        st = forward_micro(t, m, t->grad);
    }
    TRY(comm_agree(t->comm, st));
    comm_beat(t->comm, "gradient reduction");
    buckets_reduce(&t->now->buckets, lo < hi ? tape : NULL, t->vectors, t->grad, t->optim.is_share);
    return ST_OK;
}

static status_t reserve_sums(trainer_t *t, int64_t n) {
    void *p;
    size_t both = (size_t)(2 * n) * sizeof(double);
    t->cap_micro = n;
    TRY(buf_calloc(&p, n, sizeof(double), "step sums"));
    t->weights = p;
    TRY(device_alloc(t->optim.device, both, "step sums", &p));
    t->loss_at = p;
    for (int k = 0; k < TRAINER_QUEUED; k++) {
        TRY(device_alloc_pinned(t->optim.device, both, "step sums", &p));
        t->losses[k] = p;
    }
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
    TRY(reserve_sums(t, n));
    /* pages that no step fills are never touched; beyond a million steps the history grows now and then */
    return trainer_history_reserve(t, left < 1 << 20 ? left + 1 : 1 << 20);
}

/* Every rank has the same weights here, and either the whole gradient or exchanges what it comes to, so all decide
 * alike. */
static void update(trainer_t *t, double began) {
    const config_training_t *c = &t->config->training;
    const int64_t n = t->plan.pack.n_micro;
    device_t *d = t->optim.device;
    step_result_t *r = &t->queue[t->n_queued++];
    *r = (step_result_t){.n_micro = n, .began = began};
    for (int64_t m = 0; m < n; m++) r->weight += t->weights[m];
    r->learning_rate = c->learning_rate * schedule_factor(&t->schedule, t->step);
    if (t->optim.is_share && !t->tree)
        sharding_update(t->vectors, &t->optim, t->grad, 1.0 / r->weight, c->max_grad_norm, r->learning_rate);
    else
        adamw_update(&t->optim, t->grad, 1.0 / r->weight, c->max_grad_norm, r->learning_rate);
    for (int64_t i = 0; i < t->step_sequences.n; i++)
        r->tokens += t->plan.lengths[i] - dataset_virtual_tokens(t->now->data);
    r->step = ++t->step;
    r->total_tokens = t->tokens += r->tokens;
    t->place += t->step_sequences.n;
    device_download(d, t->losses[r->step % TRAINER_QUEUED], t->loss_at, (size_t)(2 * n) * sizeof *t->loss_at);
    if (t->optim.is_share) sharding_publish(t->vectors, &t->loaded.model.params);
    param_settle(&t->loaded.model.params);
    device_mark(d, trainer_mark(r->step));
}

status_t trainer_step(trainer_t *t, bool *ended) {
    double began = trainer_now();
    assert(t->n_queued < TRAINER_QUEUED);
    *ended = false;
    t->now = stage_of_step(t->stage, t->n_stage, t->step);
    TRY(comm_agree(t->comm, plan_step(t)));
    if (!t->step_sequences.n) {
        *ended = true;
        return ST_OK;
    }
    TRY(t->tree ? gradients_canonical(t) : gradients_fast(t));
    TRY(comm_sum_f64(t->comm, t->weights, t->plan.pack.n_micro));
    update(t, began);
    return ST_OK;
}
