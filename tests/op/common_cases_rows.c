/* The cases of the ops that trained prompts are made of: rows put into a tensor, and the small networks before them. */
#include "kernels/ops/activation.h"
#include "kernels/ops/lstm.h"
#include "kernels/ops/splice.h"
#include "tests/op/case_macros.h"

/* -1 and others outside [first, first + count) are left alone, repeated numbers add up, the first row of x stays */
static const splice_attr_t from_zero = {0, 4, 0, 5}, from_ten = {10, 3, 2, 5}, last_columns = {-3, 2, 4, 3};
static const splice_attr_t wide = {1000, 20, 90, 150}, edge = {INT32_MAX - 1, 2, 0, 3};
static const int32_t mixed[] = {-1, 0, 3, 1, 4, 3, 3, INT32_MIN, INT32_MAX};
static const int32_t tens[] = {9, 10, 13, 12, 10, -1, 11};
static const int32_t negative[] = {0, -3, -2, -1, -4};
static const int32_t extreme[] = {INT32_MIN, INT32_MAX, INT32_MAX - 1, INT32_MAX - 2, -1};
static const int32_t none[] = {-1, -1, 7},
                     many[300] = {[1] = 1000, [2] = 1019, [150] = 1007, [298] = 1000, [299] = 1020};

static const activation_attr_t hyperbolic = {ACTIVATION_TANH}, rectified = {ACTIVATION_RELU};
static const lstm_attr_t onwards = {false}, backwards = {true};

#define LSTM(attr, label, t, d, h)                                                                                     \
    CASE(OP_LSTM, attr, label, false, R2(t, d), R2(4 * h, d), R2(4 * h, h), R1(4 * h), R1(4 * h))

static const op_case_t cases[] = {
    CASE(OP_SPLICE, &from_zero, "splice", false, R2(9, 5), R2(4, 5), I1(9, mixed)),
    CASE(OP_SPLICE, &from_zero, "splice, more rows than used", false, R2(9, 5), R2(6, 5), I1(9, mixed)),
    CASE(OP_SPLICE, &from_ten, "splice, middle columns", false, R2(7, 5), R2(3, 8), I1(7, tens)),
    CASE(OP_SPLICE, &last_columns, "splice, negative numbers", false, R2(5, 3), R2(2, 7), I1(5, negative)),
    CASE(OP_SPLICE, &edge, "splice, largest numbers", false, R2(5, 3), R2(2, 3), I1(5, extreme)),
    CASE(OP_SPLICE, &from_zero, "splice, nothing to splice", false, R2(3, 5), R2(4, 5), I1(3, none)),
    CASE(OP_SPLICE, &from_zero, "splice, no rows", false, R2(0, 5), R2(4, 5), I1(0, none)),
    CASE(OP_SPLICE, &from_ten, "splice without x", false, ABSENT, R2(3, 8), I1(7, tens)),
    CASE(OP_SPLICE, &from_zero, "splice without x, one row", false, ABSENT, R2(4, 5), I1(1, none)),
    CASE(OP_SPLICE, &from_zero, "splice without x, no rows", false, ABSENT, R2(4, 5), I1(0, none)),
    CASE(OP_SPLICE, &wide, "splice, several tiles", false, R2(300, 150), R2(20, 240), I1(300, many)),
    CASE(OP_ACTIVATION, &hyperbolic, "tanh", false, R2(3, 7)),
    CASE(OP_ACTIVATION, &hyperbolic, "tanh, several blocks", false, R2(13, 401)),
    CASE(OP_ACTIVATION, &hyperbolic, "tanh, no rows", false, R2(0, 7)),
    CASE(OP_ACTIVATION, &rectified, "relu", false, R2(3, 7)),
    CASE(OP_ACTIVATION, &rectified, "relu, several blocks", false, R2(13, 401)),
    CASE(OP_CONCAT, NULL, "concat", false, R2(4, 3), R2(4, 5)),
    CASE(OP_CONCAT, NULL, "concat, one row", false, R2(1, 1), R2(1, 40)),
    CASE(OP_CONCAT, NULL, "concat, no rows", false, R2(0, 3), R2(0, 5)),
    LSTM(&onwards, "lstm", 5, 3, 2),
    LSTM(&backwards, "lstm, reverse", 5, 3, 2),
    LSTM(&onwards, "lstm, one row", 1, 7, 3),
    LSTM(&backwards, "lstm, one cell", 4, 1, 1),
    LSTM(&onwards, "lstm, no rows", 0, 3, 2),
    LSTM(&onwards, "lstm, several tiles", 7, 40, 70),
    LSTM(&backwards, "lstm, several tiles, reverse", 7, 20, 70),
};
const op_cases_t op_cases_rows = {cases, sizeof cases / sizeof *cases};
