/* The cases of what objectives other than plain likelihood are made of: rows of negative weight, the value head. */
#include "kernels/ops/value_weight.h"
#include "tests/op/case_macros.h"

#define WD(a, data)                                                                                                    \
    { 'w', 1, {a, 0, 0}, data }

static const int32_t targets[] = {0, 10, 4, 4, 7, 1, 2, 9, 10, 3, 5};
static int32_t many_targets[150];
static const float signs[] = {1, -1, 0.5f, -0.25f, 0, -2, 1, -0.0f, 3, -1, -1}, minus[] = {-0.75f};
static const float many_signs[150] = {[1] = -1, [2] = 1, [70] = -3, [71] = 2, [127] = 1, [128] = -1, [149] = -0.5f};

/* alpha 1: no value loss; the second beta is so small that most weights reach the cap */
static const value_weight_attr_t half = {0.5, 1}, capped = {0.25, 0.01}, weights_alone = {1, 10};
static const float rewards[] = {-0.5f, 0, -1, -0.001f, -3, -0.25f, 2}, many_rewards[70] = {-1, -0.5f, [69] = -2};

static const op_case_t cases[] = {
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "unlikelihood, mixed", false, R2(11, 6), R2(11, 6), I1(11, targets),
         WD(11, signs)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "unlikelihood, one row", false, R2(1, 6), R2(11, 6), I1(1, targets),
         WD(1, minus)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "unlikelihood, two tokens", false, R2(1, 3), R2(2, 3), I1(1, targets),
         WD(1, minus)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "unlikelihood, chunks", false, R2(150, 19), R2(1500, 19), I1(150, many_targets),
         WD(150, many_signs)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight", false, R2(7, 5), R1(5), WD(7, rewards), W1(7)),
    CASE(OP_VALUE_WEIGHT, &capped, "value_weight, at the cap", false, R2(7, 5), R1(5), WD(7, rewards), W1(7)),
    CASE(OP_VALUE_WEIGHT, &weights_alone, "value_weight, weights alone", false, R2(7, 5), R1(5), WD(7, rewards), W1(7)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight, one number", false, R2(1, 1), R1(1), WD(1, rewards), W1(1)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight, no rows", false, R2(0, 5), R1(5), WD(0, rewards), W1(0)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight, several tiles", false, R2(70, 150), R1(150), WD(70, many_rewards),
         W1(70)),
};
const op_cases_t op_cases_objective = {cases, sizeof cases / sizeof *cases};
