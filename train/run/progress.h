/* Progress of a run on stderr: a bar that is redrawn on a terminal, otherwise one line per `logging_steps`.
 *
 *   train 12/200 [>               ]  eta 7m 54s  loss 2.3132  lr 0.0002  812 tokens/s
 *   train step 12/200 loss 2.31324 grad_norm 0.912 learning_rate 0.0002 tokens 24576 speed 812.4 tokens/s ...
 *
 * Ranks other than 0 start it with out = NULL and stay silent. Nothing here can fail: a broken terminal does not end a
 * run. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include "train/run/metrics.h"

typedef struct progress {
    FILE *out;        /* NULL: silent */
    const char *name; /* in front of every line when several runs take turns; NULL: nothing */
    bool terminal;
    bool drawn; /* a bar stands on the present line */
    int64_t last_step;
    int64_t logging_steps;
    double seconds; /* smoothed time of a step, 0 before the first */
} progress_t;

/* For a run that ends with `last_step`; `name` must outlive it. */
void progress_start(progress_t *p, FILE *out, const char *name, int64_t last_step, int64_t logging_steps);
void progress_step(progress_t *p, const metrics_step_t *s);
void progress_eval(progress_t *p, int64_t step, const metrics_value_t *values, int count);
/* A line of its own, such as "saved checkpoint-10.h5". */
void progress_note(progress_t *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void progress_finish(progress_t *p);

/* "7m 40s", "2h 03m", "3d 04h"; "?" for what is no time. */
void progress_duration(double seconds, char *out, size_t size);
