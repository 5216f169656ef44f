/* Reward-weighted regression (Peters and Schaal 2007, as in Korbak et al. 2023, section 2).
 *   L = mean_t omega_t * -log p_t,  omega = min(exp(-s/beta), 1000)
 * The mean counts tokens, not omega. The released code has an untrained value head here, whose constant -1/2 scales all
 * omega by exp(1/(2 beta)); that factor is left out. */
#include <math.h>
#include "kernels/ops/value_weight.h"
#include "train/objectives/objective.h"

typedef struct reward_cfg {
    const char *field;
    double beta;
} reward_cfg_t;

static const cfg_field_t fields[] = {
    OBJECTIVE_FIELD(reward_cfg_t),
    {.name = "beta",
     .type = CFG_REAL,
     .offset = offsetof(reward_cfg_t, beta),
     .standard = "10",
     .min = 0,
     .max = 1e15,
     .flags = CFG_ABOVE,
     .doc = "score by which a weight falls to 1/e"},
    {.name = NULL},
};

static const char *score_field(const void *cfg) {
    return ((const reward_cfg_t *)cfg)->field;
}

static float weigh(const void *cfg, double score, float weight) {
    double omega = exp(-score / ((const reward_cfg_t *)cfg)->beta);
    return (float)((double)weight * (omega > VALUE_WEIGHT_MOST ? VALUE_WEIGHT_MOST : omega));
}

const objective_t objective_reward_weighted = {
    .section = {"reward_weighted", fields, sizeof(reward_cfg_t)},
    .score_field = score_field,
    .weigh = weigh,
};
