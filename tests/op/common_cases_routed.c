/* The cases of routed_linear: experts that alternate, neighbours of one expert, experts nobody takes, sequences without
 * rows whose numbers are not to be read. */
#include "kernels/ops/routed_linear.h"
#include "tests/op/case_macros.h"

static const routed_linear_attr_t one = {1}, two = {2}, three = {3};
static const int32_t cu5[] = {0, 2, 3, 3, 7, 9}, mixed[] = {2, 0, -7, 2, 0}, neighbours[] = {1, 1, 99, 1, 0},
                     same[] = {0, 0, 0, 0, 0};
static const int32_t cu_none[] = {0, 0, 0}, expert_none[] = {7, -1}, cu_nothing[] = {0};
static const int32_t cu_wide[] = {0, 140, 141, 260, 300}, expert_wide[] = {1, 0, 1, 1};
static const int32_t last[] = {2, 2, 2, 2, 2};

#define ROUTED(attr, label, n, k, rows, bias, s, cu, expert)                                                           \
    CASE(OP_ROUTED_LINEAR, attr, label, false, R2(n, k), R2(rows, k), bias, I1(s + 1, cu), I1(s, expert))

static const op_case_t cases[] = {
    ROUTED(&three, "routed_linear", 9, 7, 9, R1(9), 5, cu5, mixed),
    ROUTED(&three, "routed_linear without bias", 9, 7, 9, ABSENT, 5, cu5, mixed),
    ROUTED(&two, "routed_linear, neighbours", 9, 7, 8, R1(8), 5, cu5, neighbours),
    ROUTED(&three, "routed_linear, unused experts", 9, 5, 6, R1(6), 5, cu5, last),
    ROUTED(&one, "routed_linear, one expert", 9, 7, 3, R1(3), 5, cu5, same),
    ROUTED(&two, "routed_linear, no rows", 0, 7, 6, R1(6), 2, cu_none, expert_none),
    ROUTED(&two, "routed_linear, no sequences", 0, 7, 6, R1(6), 0, cu_nothing, expert_none),
    ROUTED(&two, "routed_linear, several tiles", 300, 17, 1100, R1(1100), 4, cu_wide, expert_wide),
};
const op_cases_t op_cases_routed = {cases, sizeof cases / sizeof *cases};
