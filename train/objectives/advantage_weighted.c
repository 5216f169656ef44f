/* Advantage-weighted regression (Peng et al. 2019, as in Korbak et al. 2023, section 2): as reward_weighted, but a
 * token's reward R = -s is compared with what a value head expects there, V = -sigmoid(v . h).
 *   A = R - V without gradient,  omega = min(exp(A/beta), 1000)
 *   L = alpha mean_t omega_t * -log p_t + (1 - alpha) mean_t (R_t - V_t)^2
 * v [D] is 0 at first, is trained with the run's learning rate and has weight decay; h is what the output head sees,
 * and the gradient of the second term goes on into the model. Checkpoints hold v, exports do not. */
#include "kernels/ops/value_weight.h"
#include "train/objectives/objective.h"

typedef struct advantage_cfg {
    const char *field;
    double alpha, beta;
} advantage_cfg_t;

static const cfg_field_t fields[] = {
    OBJECTIVE_FIELD(advantage_cfg_t),
    {.name = "alpha",
     .type = CFG_REAL,
     .offset = offsetof(advantage_cfg_t, alpha),
     .standard = "0.5",
     .min = 0,
     .max = 1,
     .doc = "share of the likelihood; the rest is the value head's"},
    {.name = "beta",
     .type = CFG_REAL,
     .offset = offsetof(advantage_cfg_t, beta),
     .standard = "10",
     .min = 0,
     .max = 1e15,
     .flags = CFG_ABOVE,
     .doc = "advantage by which a weight grows to e"},
    {.name = NULL},
};

static const char *score_field(const void *cfg) {
    return ((const advantage_cfg_t *)cfg)->field;
}

static status_t declare(const void *cfg, model_t *m, int *param) {
    (void)cfg;
    return param_declare(&m->params, "value_head.weight", 1, &m->config.hidden, true, true, param);
}

static void tail(const goal_t *g, build_t *b, val_t x, val_t head) {
    const advantage_cfg_t *c = g->cfg;
    const value_weight_attr_t attr = {c->alpha, c->beta};
    const val_t in[] = {x, tape_param(b->tape, g->param), b->rewards, b->weights};
    val_t weighted, value = tape_emit(b->tape, OP_VALUE_WEIGHT, "value head", 4, in, &attr, sizeof attr, &weighted);
    m_loss(b, x, head, weighted, value);
}

const objective_t objective_advantage_weighted = {
    .section = {"advantage_weighted", fields, sizeof(advantage_cfg_t)},
    .score_field = score_field,
    .declare = declare,
    .tail = tail,
};
