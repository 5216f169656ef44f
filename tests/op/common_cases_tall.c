/* Cases of many rows, long rows and addresses between: sorts over several tiles, partial sums over several chunks, rows
 * that are longer than a block of threads holds, and columns that begin off the 16 bytes that devices load at once. */
#include "kernels/ops/cols.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/splice.h"
#include "kernels/ops/value_weight.h"
#include "tests/op/case_macros.h"

static const rmsnorm_attr_t rms = {1e-5};
static const layernorm_attr_t layer = {1e-5};

/* A hundred numbers from a on, out of order; a number occurs some ten times at most, for which the limit of ops
 * that add a few terms is meant. */
#define TEN(a) a + 3, a + 1, a + 9, a, a + 4, a + 8, a + 2, a + 7, a + 6, a + 5
#define HUNDRED(a)                                                                                                     \
    TEN(a + 40), TEN(a), TEN(a + 70), TEN(a + 10), TEN(a + 80), TEN(a + 90), TEN(a + 20), TEN(a + 60), TEN(a + 30),    \
        TEN(a + 50)
static const int32_t ids[1100] = {HUNDRED(0),   HUNDRED(200), HUNDRED(0),  HUNDRED(300), HUNDRED(100), HUNDRED(0),
                                  HUNDRED(150), HUNDRED(0),   HUNDRED(50), HUNDRED(300), HUNDRED(0)};
static const int32_t rows[600] = {HUNDRED(1100), HUNDRED(0), HUNDRED(500), HUNDRED(600), HUNDRED(0), HUNDRED(1200)};
static const int32_t index600[600] = {HUNDRED(50), HUNDRED(0), HUNDRED(-60), HUNDRED(100), HUNDRED(-90), HUNDRED(0)};
static const splice_attr_t off16 = {-3, 50, 4, 8};

static const cols_attr_t off16_cols = {4, 8}, ragged_cols = {8, 8};

static const int32_t positions[] = {0, 1, 99999, 100000, 131071, 16777217, INT32_MAX};
static const double inv_freq[300] = {1, 0.9, 0.75, 0.1, 0.01, 1e-3, 1e-5, [255] = 0.5, 0.25, 0.3, [299] = 0.7};
static const rope_table_attr_t table600 = {300, inv_freq, DT_F32}, table14 = {7, inv_freq, DT_F32};

static const value_weight_attr_t half = {0.5, 1};

static const op_case_t cases[] = {
    CASE(OP_EMBEDDING, NULL, "embedding, repeated rows", false, R2(400, 6), I1(1100, ids)),
    CASE(OP_EMBEDDING, NULL, "embedding, repeated even rows", false, R2(400, 8), I1(600, ids)),
    CASE(OP_GATHER_ROWS, NULL, "gather_rows, many rows", false, R2(1300, 5), I1(600, rows)),
    CASE(OP_SPLICE, &off16, "splice, repeated rows", false, R2(600, 8), R2(60, 24), I1(600, index600)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, many rows", false, R2(200, 24), R1(24)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, long odd rows", false, R2(2, 1037), R1(1037)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, longest rows", false, R2(1, 17000), R1(17000)),
    CASE(OP_LAYERNORM, &layer, "layernorm, many rows", false, R2(200, 24), R1(24), R1(24)),
    CASE(OP_LAYERNORM, &layer, "layernorm, long odd rows", false, R2(2, 1037), R1(1037), R1(1037)),
    CASE(OP_LAYERNORM, &layer, "layernorm, longest rows", false, R2(1, 17003), R1(17003), R1(17003)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, many rows", false, R2(200, 24), R2(200, 24), R1(24)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, longest rows", false, R2(1, 17000), R2(1, 17000), R1(17000)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, many rows", false, R2(200, 24), R2(200, 24), R1(24), R1(24)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, longest rows", false, R2(1, 17003), R2(1, 17003), R1(17003),
         R1(17003)),
    CASE(OP_ROPE, NULL, "rope, many heads", false, R2(2, 5120), R2(2, 128)),
    CASE(OP_ROPE, NULL, "rope, odd pairs", false, R2(50, 90), R2(50, 10)),
    CASE(OP_ROPE_TABLE, &table600, "rope_table, many frequencies", false, I1(7, positions)),
    CASE(OP_ROPE_TABLE, &table14, "rope_table, far positions", false, I1(7, positions)),
    CASE(OP_COLS, &off16_cols, "cols off 16 bytes", false, R2(30, 24)),
    CASE(OP_COLS, &ragged_cols, "cols, ragged rows", false, R2(30, 20)),
    CASE(OP_CONCAT, NULL, "concat off 16 bytes", false, R2(30, 12), R2(30, 8)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight, many rows", false, R2(300, 20), R1(20), W1(300), W1(300)),
};
const op_cases_t op_cases_tall = {cases, sizeof cases / sizeof *cases};
