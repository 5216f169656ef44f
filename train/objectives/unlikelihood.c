/* Unlikelihood (Welleck et al. 2019, equation 4; Korbak et al. 2023, section 2): tokens of sequences with a score up to
 * the threshold are made likely, the others unlikely.
 *   L = mean_t  -log p_t                         where s_t <= threshold
 *               -alpha log max(1 - p_t, 1e-20)   elsewhere
 * A threshold of 0 is one like any other (the released code takes it for none). */
#include "train/objectives/objective.h"

typedef struct unlikelihood_cfg {
    const char *field;
    double threshold, alpha;
} unlikelihood_cfg_t;

static const cfg_field_t fields[] = {
    OBJECTIVE_FIELD(unlikelihood_cfg_t),
    {.name = "threshold",
     .type = CFG_REAL,
     .offset = offsetof(unlikelihood_cfg_t, threshold),
     .min = -1e30,
     .max = 1e30,
     .flags = CFG_REQUIRED,
     .doc = "highest score whose tokens are made likely"},
    {.name = "alpha",
     .type = CFG_REAL,
     .offset = offsetof(unlikelihood_cfg_t, alpha),
     .standard = "1",
     .min = 0,
     .max = 1e6,
     .doc = "weight of tokens that are made unlikely"},
    {.name = NULL},
};

static const char *score_field(const void *cfg) {
    return ((const unlikelihood_cfg_t *)cfg)->field;
}

/* linear_cross_entropy takes a negative weight so. */
static float weigh(const void *cfg, double score, float weight) {
    const unlikelihood_cfg_t *c = cfg;
    return score <= c->threshold ? weight : (float)(-c->alpha * (double)weight);
}

const objective_t objective_unlikelihood = {
    .section = {"unlikelihood", fields, sizeof(unlikelihood_cfg_t)},
    .score_field = score_field,
    .weigh = weigh,
};
