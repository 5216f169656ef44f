/* The stages of a run: template, mixture, packing and objective may change at a share of its steps, while weights,
 * optimiser, schedule and the place in the stream go on. A run without stages is a run of one.
 *
 * All stages' data are opened and checked before the first step. The place of the stream counts sequences over the
 * whole run, so a later stage does not begin with what an earlier one has seen. */
#pragma once
#include "data/condition.h"
#include "data/stream.h"
#include "train/comm/comm.h"
#include "train/config/config.h"
#include "train/run/buckets.h"
#include "train/run/loaded.h"

typedef struct stage {
    const config_t *config; /* of which data, conditioning and objective count */
    const goal_t *goal;
    int64_t end;               /* the step at which the next one begins */
    dataset_source_t *sources; /* [data.train] */
    condition_t *condition;    /* what stands around documents; NULL: nothing */
    dataset_t *data;
    stream_t *stream;
    int64_t capacity; /* tokens of a micro-batch, virtual ones counted */
    build_t build;
    buckets_t buckets; /* of the gradients, for the fast reduction */
} stage_t;

/* Fills config and goal. *local* */
status_t stages_open(const config_t *config, const loaded_t *l, stage_t **out, int *n);
/* *collective*, with agreements of its own: the training data. */
status_t stage_open_data(comm_t *comm, const loaded_t *l, stage_t *s);
/* *local*: the streams, and where each stage ends; *total: the steps of the run. */
status_t stages_open_streams(stage_t *s, int n, int64_t *total);
/* The stage of a step: the last one beyond the end. */
stage_t *stage_of_step(stage_t *s, int n, int64_t step);
void stages_close(stage_t *s, int n);
