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

static status_t after_step(trainer_t *t, bool last, bool *stop) {
    const config_t *c = t->config;
    bool evaluates = t->has_eval && (last || due(c->eval_steps, t->step)), saves = last || due(c->save_steps, t->step);
    TRY(trainer_settle(t, t->optim.device && !evaluates && !saves ? 1 : 0));
    TRY(stop_requested(t, stop));
    if (!*stop && evaluates) TRY(evaluate(t, stop));
    return saves && !*stop ? trainer_save(t, NULL) : ST_OK;
}

/* A step that fails leaves the report of the one before it, which may have failed itself. */
static status_t next_step(trainer_t *t, bool *ended) {
    strbuf_t message = {0};
    status_t st = trainer_step(t, ended);
    if (st == ST_OK || st == ST_COMM) return st;
    bool kept = strbuf_adds(&message, st_message()) == ST_OK;
    status_t older = trainer_settle(t, 0);
    if (older == ST_OK && kept) st_adopt(st, message.data);
    strbuf_release(&message);
    return older == ST_OK ? st : older;
}

static status_t finish(trainer_t *t, trainer_state_t *state) {
    TRY(trainer_save(t, "final.h5"));
    TRY(comm_agree(t->comm, t->reporter ? reporter_report(t->reporter) : ST_OK));
    *state = TRAINER_DONE;
    return ST_OK;
}

status_t trainer_advance(trainer_t *t, trainer_state_t *state) {
    bool ended = t->step >= t->schedule.total, stop = false;
    *state = TRAINER_GOES_ON;
    if (!ended) TRY(next_step(t, &ended));
    if (ended) return finish(t, state);
    bool last = t->step == t->schedule.total;
    TRY(after_step(t, last, &stop));
    if (stop) *state = TRAINER_STOPS;
    return last && !stop ? finish(t, state) : ST_OK;
}
