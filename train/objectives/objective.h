/* An objective: what a run minimises over the tokens that have a loss in the data. It is no method: what is trained and
 * what is minimised are chosen apart. One file with one table, and one row in registry.c. *local*
 *
 * Every token belongs to a sequence with a score s, a number of the example that says how bad it is ("misalignment
 * score" of Korbak et al. 2023, "Pretraining Language Models with Human Preferences", section 2); the reward is -s. The
 * step's loss and gradient are divided by the sum of the tokens' weights in the data, whatever an objective makes of
 * them. Evaluation knows no objective: it is always the likelihood. */
#pragma once
#include "train/config/config.h"
#include "train/models/build.h"

typedef struct objective {
    method_fields_t section; /* its name in a configuration and the keys besides `type` */
    /* The field of the examples that holds the score. NULL: none is read. */
    const char *(*score_field)(const void *cfg);
    /* Declares trainable tensors on the model, before param_set_alloc; they are 0 at first. NULL: none. */
    status_t (*declare)(const void *cfg, model_t *m, int *param);
    /* As in goal_t. */
    float (*weigh)(const void *cfg, double score, float weight);
    void (*tail)(const goal_t *g, build_t *b, val_t x, val_t head);
} objective_t;

extern const objective_t *const objectives[]; /* registry.c, NULL-terminated; the first is the default */

/* Row of the key `field` in a section struct with that member. */
#define OBJECTIVE_FIELD(type_t)                                                                                        \
    {                                                                                                                  \
        .name = "field", .type = CFG_STRING, .offset = offsetof(type_t, field), .standard = "score",                   \
        .doc = "number of an example that says how bad it is"                                                          \
    }

const objective_t *objective_find(const char *type); /* NULL for an unknown one */
/* The field that a configured objective reads, NULL: none. */
const char *objective_score_field(const config_objective_t *c);
/* What a build needs of it. Declares its tensors under GOAL_SCOPE, unless `same`, a goal of the same type, has them
 * already; NULL: none. Borrows the configuration. */
status_t objective_open(const config_objective_t *c, model_t *m, const goal_t *same, goal_t *out);
