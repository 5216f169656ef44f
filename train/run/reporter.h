/* What a run tells people and leaves behind: progress on stderr, metrics.jsonl, TensorBoard events, report.html,
 * config.yaml. Rank 0 only. *local* */
#pragma once
#include "kernels/status.h"
#include "train/config/config.h"
#include "train/run/evaluate.h"
#include "train/run/metrics.h"

typedef struct reporter reporter_t;

/* Opens the files of output_dir; rows of metrics.jsonl after `step` (left by an interrupted run) are dropped. */
status_t reporter_open(const config_t *config, const char *config_yaml, int64_t step, int64_t total_steps, int ranks,
                       reporter_t **out);
void reporter_close(reporter_t *r);
status_t reporter_step(reporter_t *r, const metrics_step_t *s, bool last);
status_t reporter_eval(reporter_t *r, int64_t step, const evaluation_t *e);
void reporter_say(reporter_t *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* To disk: called before a checkpoint is saved, so that a resume loses no line. */
status_t reporter_sync(reporter_t *r);
/* Writes report.html. */
status_t reporter_report(reporter_t *r);
