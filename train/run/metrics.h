/* metrics.jsonl: what a run measured, one JSON object a line.
 *
 *   {"step":3,"tokens":6144,"loss":2.31,"grad_norm":0.9,"learning_rate":0.0002,"tokens_per_second":812.0,"step_seconds":2.5}
 *   {"step":10,"eval_loss":2.2,"eval_perplexity":9.03}
 *
 * The file is continued by a resume, never duplicated: opening it for a continuation drops what was written after the
 * checkpoint. For that to lose nothing, a step's lines are written, then metrics_sync() is called, then the checkpoint
 * of the step is saved. A value that is not finite is written as null. Only rank 0 has a writer; all functions are
 * *local*. */
#pragma once
#include <stdint.h>
#include "kernels/status.h"

/* What one optimiser step measured; loss before the update, grad_norm before clipping. */
typedef struct metrics_step {
    int64_t step;   /* from 1: the number of updates made */
    int64_t tokens; /* since the run began, over all ranks */
    double loss;
    double grad_norm;
    double learning_rate;
    double tokens_per_second;
    double step_seconds;
} metrics_step_t;

typedef struct metrics_value {
    const char *name; /* "eval_loss", "eval_..." */
    double value;
} metrics_value_t;

typedef struct metrics metrics_t;

enum { METRICS_NEW = -1 };

/* Opens `path` for appending. `keep_to` is the step of the checkpoint that the run continues from: lines of later steps
 * and a torn last line are cut off; METRICS_NEW begins an empty file. A line before that which is not a JSON object
 * with a step is ST_INPUT and leaves the file untouched. */
status_t metrics_open(const char *path, int64_t keep_to, metrics_t **out);

status_t metrics_write_step(metrics_t *m, const metrics_step_t *s);
status_t metrics_write_eval(metrics_t *m, int64_t step, const metrics_value_t *values, int count);
status_t metrics_sync(metrics_t *m); /* to disk */
void metrics_close(metrics_t *m);    /* NULL is allowed */

/* One curve of a file. */
typedef struct metrics_point {
    int64_t step;
    double value;
} metrics_point_t;

typedef struct metrics_series {
    metrics_point_t *points; /* [count], in file order; owned */
    int64_t count, cap;
} metrics_series_t;

/* Reads the values named `names[i]` of all lines into `series[i]` (zeroed by the caller, released with
 * metrics_series_release also after a failure). Lines that cannot be read are passed over. ST_INPUT if the file cannot
 * be opened. */
status_t metrics_read(const char *path, const char *const *names, int count, metrics_series_t *series);
void metrics_series_release(metrics_series_t *s);
