/* The objectives: one row each. */
#include <string.h>
#include "train/objectives/objective.h"

extern const objective_t objective_mle;
extern const objective_t objective_unlikelihood;
extern const objective_t objective_reward_weighted;
extern const objective_t objective_advantage_weighted;

const objective_t *const objectives[] = {&objective_mle, &objective_unlikelihood, &objective_reward_weighted,
                                         &objective_advantage_weighted, NULL};

const objective_t *objective_find(const char *type) {
    for (const objective_t *const *o = objectives; *o; o++)
        if (!strcmp((*o)->section.type, type)) return *o;
    return NULL;
}

const char *objective_score_field(const config_objective_t *c) {
    const objective_t *o = objective_find(c->type);
    return o->score_field ? o->score_field(c->cfg) : NULL;
}

status_t objective_open(const config_objective_t *c, model_t *m, const goal_t *same, goal_t *out) {
    const objective_t *o = objective_find(c->type);
    *out = (goal_t){.cfg = c->cfg, .param = -1, .weigh = o->weigh, .tail = o->tail};
    if (same) out->param = same->param;
    if (!o->declare || same) return ST_OK;
    const char *scope = m->params.scope;
    m->params.scope = GOAL_SCOPE;
    status_t st = o->declare(c->cfg, m, &out->param);
    m->params.scope = scope;
    return st;
}
