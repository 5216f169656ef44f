#include "train/run/runs.h"
#include <stdlib.h>
#include "train/run/trainer.h"

typedef struct runs {
    trainer_t *trainer;     /* [n] the first one has the base */
    trainer_state_t *state; /* [n] */
    int n, opened;
} runs_t;

/* Says which of several runs it was. */
static status_t of_run(const trainer_t *t, status_t st) {
    return st != ST_OK && t->config->name ? st_context(st, "adapter %s", t->config->name) : st;
}

/* One tape is at work at a time, of training or evaluation. */
static status_t share_memory(const runs_t *r) {
    void *p;
    int n = 0, most = 0;
    for (int i = 0; i < r->n; i++) most += r->trainer[i].n_stage + 1;
    TRY(buf_calloc(&p, most, sizeof(tape_t *), "runs"));
    tape_t **tape = p;
    for (int i = 0; i < r->n; i++) {
        const trainer_t *t = &r->trainer[i];
        for (int k = 0; k < t->n_stage; k++) tape[n++] = t->stage[k].build.tape;
        if (t->has_eval) tape[n++] = t->evaluator.build.tape;
    }
    tape_share_memory(tape, n);
    free(tape);
    return ST_OK;
}

/* All are opened before the first one takes its directory: what cannot run leaves nothing behind. */
static status_t open_all(const config_t *config, comm_t *comm, runs_t *r) {
    void *p;
    const config_t *each = config_runs(config, &r->n);
    TRY(buf_calloc(&p, r->n, sizeof *r->trainer, "runs"));
    r->trainer = p;
    TRY(buf_calloc(&p, r->n, sizeof *r->state, "runs"));
    r->state = p;
    for (int i = 0; i < r->n; i++) {
        trainer_t *t = &r->trainer[r->opened++];
        TRY(of_run(t, trainer_open(&each[i], comm, i ? &r->trainer[0] : NULL, t)));
    }
    TRY(comm_agree(comm, share_memory(r)));
    for (int i = 0; i < r->n; i++) TRY(of_run(&r->trainer[i], trainer_begin(&r->trainer[i])));
    return ST_OK;
}

static void close_all(runs_t *r) {
    while (r->opened) trainer_close(&r->trainer[--r->opened]);
    free(r->trainer);
    free(r->state);
}

/* Saves what is newer than its checkpoint in all runs but one. */
static status_t save_others(runs_t *r, int except) {
    for (int i = 0; i < r->n; i++) {
        trainer_t *t = &r->trainer[i];
        if (i != except && r->state[i] != TRAINER_DONE && t->step > t->saved) TRY(trainer_save(t, NULL));
    }
    return ST_OK;
}

/* One run's failure must not cost the others their work; it stays what is reported. */
static status_t fail(runs_t *r, int which, status_t st) {
    strbuf_t message = {0};
    if (st == ST_COMM) return st; /* the ranks can no longer agree on anything */
    st = of_run(&r->trainer[which], st);
    bool kept = strbuf_adds(&message, st_message()) == ST_OK;
    status_t other = save_others(r, which);
    if (kept) st_adopt(st, message.data);
    strbuf_release(&message);
    return other == ST_COMM ? other : st;
}

static status_t stop(runs_t *r, int which) {
    const trainer_t *t = &r->trainer[which];
    TRY(save_others(r, -1));
    return st_raise(ST_STOPPED, t->config->output_dir,
                    "stopped on request after saving step %lld; start it again to continue", (long long)t->step);
}

/* A step of every run that is not done; *left: how many are not. */
static status_t turn(runs_t *r, int *left) {
    *left = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->state[i] == TRAINER_DONE) continue;
        status_t st = trainer_advance(&r->trainer[i], &r->state[i]);
        if (st != ST_OK) return fail(r, i, st);
        if (r->state[i] == TRAINER_STOPS) return stop(r, i);
        *left += r->state[i] != TRAINER_DONE;
    }
    return ST_OK;
}

status_t runs_train(const config_t *config, comm_t *comm) {
    runs_t r = {.n = 0};
    int left = 1;
    status_t st = open_all(config, comm, &r);
    while (st == ST_OK && left) st = turn(&r, &left);
    if (st == ST_COMM) comm_die(comm, st); /* closing would wait for ranks that can no longer be told */
    close_all(&r);
    return st;
}
