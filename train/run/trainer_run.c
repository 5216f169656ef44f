/* One turn of the loop: step, report, evaluate, save, notice a request to stop. */
#include "train/run/trainer.h"

static status_t evaluate(trainer_t *t, bool *stopped) {
    evaluation_t e;
    TRY(evaluator_run(&t->evaluator, t->comm, t->stop, stopped, &e));
    if (*stopped) return ST_OK;
    return comm_agree(t->comm, t->reporter ? reporter_eval(t->reporter, t->step, &e) : ST_OK);
}

static bool due(int64_t every, int64_t step) {
    return every > 0 && step % every == 0;
}

/* A request that reached any rank stops all. */
static status_t stop_requested(trainer_t *t, bool *stop) {
    int64_t flag = *t->stop;
    TRY(comm_max_i64(t->comm, &flag, 1));
    *stop = flag != 0;
    return ST_OK;
}

static status_t after_step(trainer_t *t, const step_result_t *r, bool last, bool *stop) {
    const config_t *c = t->config;
    const metrics_step_t row = {
        t->step, t->tokens, r->loss, r->grad_norm, r->learning_rate, (double)r->tokens / r->seconds, r->seconds};
    /* reports are rank 0's; a failure of one must reach all before they go on */
    TRY(comm_agree(t->comm, t->reporter ? reporter_step(t->reporter, &row, last) : ST_OK));
    TRY(stop_requested(t, stop));
    if (!*stop && t->has_eval && (last || due(c->eval_steps, t->step))) TRY(evaluate(t, stop));
    if (*stop) return ST_OK;
    return last || due(c->save_steps, t->step) ? trainer_save(t, NULL) : ST_OK;
}

static status_t finish(trainer_t *t, trainer_state_t *state) {
    TRY(trainer_save(t, "final.h5"));
    TRY(comm_agree(t->comm, t->reporter ? reporter_report(t->reporter) : ST_OK));
    *state = TRAINER_DONE;
    return ST_OK;
}

status_t trainer_advance(trainer_t *t, trainer_state_t *state) {
    step_result_t r;
    bool ended = t->step >= t->schedule.total, stop = false;
    *state = TRAINER_GOES_ON;
    if (!ended) TRY(trainer_step(t, &r, &ended));
    if (ended) return finish(t, state);
    bool last = t->step == t->schedule.total;
    TRY(after_step(t, &r, last, &stop));
    if (stop) *state = TRAINER_STOPS;
    return last && !stop ? finish(t, state) : ST_OK;
}
