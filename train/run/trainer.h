/* One training run: everything that it holds between opening and closing. Set-up is in trainer_open.c, a step in
 * trainer_step.c, what is due after it in trainer_run.c, saving and resuming in trainer_save.c. Several runs may share
 * a base; train/run/runs.h steps them in turn.
 *
 * On a device the host learns what a step came to while the next one runs (the queue of two); before an evaluation, a
 * checkpoint and the end it waits for all. */
#pragma once
#include "data/stream.h"
#include "train/checkpoint/checkpoint.h"
#include "train/comm/comm.h"
#include "train/comm/comm_data.h"
#include "train/comm/tree.h"
#include "train/config/config.h"
#include "train/optim/adamw.h"
#include "train/optim/schedule.h"
#include "train/run/evaluate.h"
#include "train/run/loaded.h"
#include "train/run/micro.h"
#include "train/run/reporter.h"
#include "train/run/stage.h"

enum { TRAINER_QUEUED = 2 };

/* A step that has been put into the device's queue; what it came to is known when it is settled. */
typedef struct step_result {
    int64_t step, total_tokens; /* of the run, with this step */
    int64_t tokens, n_micro;
    double weight, learning_rate, began;
    double loss, grad_norm, seconds; /* when settled */
    int64_t bad_micro;               /* likewise: the first one whose loss is no number, -1: none */
} step_result_t;

typedef struct trainer {
    const config_t *config;
    comm_t *comm;
    comm_data_t *vectors; /* moves gradients and weights; shared by the runs of a process */
    bool owns_vectors;
    compute_t compute; /* where it computes; shared by the runs of a process */
    bool owns_compute;
    loaded_t loaded;
    stage_t *stage; /* [n_stage] */
    int n_stage;
    stage_t *now; /* the one of the present step */
    dataset_t *eval_data;
    stream_step_t step_sequences;
    micro_plan_t plan;
    batch_t batch; /* of any stage */
    evaluator_t evaluator;
    bool has_eval;
    tree_t *tree;                   /* canonical reduction; NULL: fast */
    float *grad;                    /* [n_trainable] the step's gradient; the parameters' own, where they are trained */
    int64_t cap_micro;              /* most micro-batches of a step */
    double *weights;                /* [cap_micro] sums of the present step's */
    double *loss_at;                /* [cap_micro, 2] both losses of each, where the tape is */
    double *losses[TRAINER_QUEUED]; /* [cap_micro, 2] likewise, the host's: of the last steps */
    step_result_t queue[TRAINER_QUEUED]; /* steps that are under way or not reported yet, the oldest first */
    int n_queued;
    double settled; /* when the last report was made */
    adamw_t optim;
    schedule_t schedule;
    const volatile int *stop;
    reporter_t *reporter; /* rank 0 only, else NULL */
    strbuf_t config_yaml;
    uint64_t data_fingerprint, tokenizer_fingerprint;
    bool choices_differ; /* the checkpoint's are of another device or version, so they are made anew */
    /* the state of the run, saved in checkpoints */
    int64_t step, tokens, place; /* updates done, tokens seen, stream place */
    int64_t saved;               /* step of the newest checkpoint */
    int64_t published;           /* step of the newest one that this process has written; 0: none */
    double *history;             /* [n_history, 4]: step, loss, grad_norm, learning_rate */
    int64_t n_history, cap_history;
} trainer_t;

typedef enum trainer_state {
    TRAINER_GOES_ON,
    TRAINER_STOPS, /* on request; the last step is not saved yet */
    TRAINER_DONE,  /* all is saved */
} trainer_state_t;

/* *collective*; all ranks return alike: the model, the data and the tape; nothing is written. `base` is an open trainer
 * of the same model that outlives this one, which shares its base weights; NULL: none. Release with trainer_close also
 * after a failure. */
status_t trainer_open(const config_t *config, comm_t *comm, const trainer_t *base, trainer_t *t);
void trainer_close(trainer_t *t);
/* *collective*: takes the output directory and continues from what is there. */
status_t trainer_begin(trainer_t *t);
/* *collective*: one step and what is due after it; at the end of the run the final files. */
status_t trainer_advance(trainer_t *t, trainer_state_t *state);

/* Inside of the run. */
/* *local*: takes the memory that steps need, so that none is taken in a step. After resuming. */
status_t trainer_step_reserve(trainer_t *t);
/* *collective*: one optimiser step, put into the queue of steps, which must have room. *ended when the stream gave no
 * sequence. */
status_t trainer_step(trainer_t *t, bool *ended);
/* *local*: room for `steps` more rows of the history. */
status_t trainer_history_reserve(trainer_t *t, int64_t steps);
double trainer_now(void); /* seconds of a clock that only goes on */
/* The device's mark behind a step; the first two are those of the tape's inputs. */
static inline int trainer_mark(int64_t step) {
    return 2 + (int)(step % TRAINER_QUEUED);
}
/* *collective*: waits for all but the newest `keep` steps of the queue and reports them in order. ST_NUMERIC when one's
 * loss or gradient is no number; neither it nor a later step has changed weights or the state then. */
status_t trainer_settle(trainer_t *t, int keep);
/* *collective*: settles all steps; rank 0 writes; all learn the outcome. name NULL: a numbered checkpoint, else
 * DIR/name. */
status_t trainer_save(trainer_t *t, const char *name);
/* *collective*: applies resume_from_checkpoint. */
status_t trainer_resume(trainer_t *t);
