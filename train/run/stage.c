#include "train/run/stage.h"
#include <math.h>
#include <stdlib.h>
#include "train/objectives/objective.h"
#include "train/run/dataload.h"

static status_t open_one(const config_t *config, const goal_t *goal, stage_t *s) {
    const cfg_sources_t *train = &config->data.train;
    const cfg_template_t *slots = &config->conditioning.template;
    const condition_use_t use = {.seed = (uint64_t)config->training.seed};
    void *p;
    s->config = config;
    s->goal = goal;
    TRY(buf_calloc(&p, train->count, sizeof *s->sources, "sources"));
    s->sources = p;
    for (int i = 0; i < train->count; i++)
        s->sources[i] = (dataset_source_t){train->items[i].path, train->items[i].weight};
    return slots->count ? condition_open(slots->items, slots->count, &use, &s->condition) : ST_OK;
}

status_t stages_open(const config_t *config, const loaded_t *l, stage_t **out, int *n) {
    void *p;
    TRY(buf_calloc(&p, l->n_goal, sizeof **out, "stages"));
    *out = p;
    *n = l->n_goal;
    for (int i = 0; i < *n; i++)
        TRY(open_one(config->stage_count ? &config->stage[i] : config, &l->goal[i], &(*out)[i]));
    return ST_OK;
}

status_t stage_open_data(comm_t *comm, const loaded_t *l, stage_t *s) {
    const config_data_t *c = &s->config->data;
    const dataload_t load = {.config = c,
                             .sources = s->sources,
                             .n_sources = c->train.count,
                             .encoder = encoder_of_tokenizer(l->tokenizer),
                             .layout = &l->layout,
                             .condition = s->condition,
                             .score_field = objective_score_field(&s->config->objective),
                             .filter = &c->filter};
    return dataload_open(comm, &load, &s->data);
}

status_t stages_open_streams(stage_t *s, int n, int64_t *total) {
    const config_training_t *c = &s->config->training;
    double share = 0;
    for (int i = 0; i < n; i++) {
        const stream_options_t o = {.seed = (uint64_t)c->seed,
                                    .shuffle = s[i].config->data.shuffle,
                                    .global_batch_size = c->global_batch_size,
                                    .global_batch_tokens = c->global_batch_tokens,
                                    .epochs = c->max_steps ? 0 : c->num_train_epochs};
        TRY(stream_open(s[i].data, &o, &s[i].stream));
    }
    *total = c->max_steps ? c->max_steps : stream_count_steps(s->stream); /* stages have max_steps */
    for (int i = 0; i < n; i++) {
        share += s[i].config->share;
        s[i].end = i + 1 == n ? *total : (int64_t)llround(share * (double)*total);
    }
    return ST_OK;
}

stage_t *stage_of_step(stage_t *s, int n, int64_t step) {
    int i = 0;
    while (i + 1 < n && step >= s[i].end) i++;
    return &s[i];
}

void stages_close(stage_t *s, int n) {
    for (int i = 0; i < n; i++) {
        build_close(&s[i].build);
        stream_close(s[i].stream);
        dataset_close(s[i].data);
        condition_close(s[i].condition);
        free(s[i].sources);
    }
    free(s);
}
