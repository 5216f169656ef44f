/* The cases of every op: ordinary shapes, one row, no rows, odd sizes, more rows than a tile, absent inputs. */
#include "kernels/ops/cols.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/lowrank.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"
#include "tests/op/case_macros.h"

static const rmsnorm_attr_t rms = {1e-5};
static const layernorm_attr_t layer = {1e-5};
static const int32_t ids[] = {3, 0, 3, 6, 3, 1, 0};
static const int32_t positions[] = {0, 1, 2, 0, 511, 1023, 7};
static const double inv_freq[] = {1.0, 0.31622776601683794, 0.1};
static const rope_table_attr_t table32 = {3, inv_freq, DT_F32};
static const cols_attr_t left = {0, 3}, middle = {3, 2}, whole = {0, 8};
static const int32_t rows[] = {0, 2, 3, 8};

static const lowrank_attr_t lora = {2.0, 0.0, 3}, dropped = {0.5, 0.3, 9};
static const uint64_t keys[300] = {5, 6, (uint64_t)1 << 32, (uint64_t)1 << 32 | 1, (uint64_t)7 << 32, 9, 10};

static const int32_t targets[] = {0, 10, 4, 4, 7, 1, 2, 9, 10, 3, 5};
static const linear_cross_entropy_attr_t last_rows = {9}, middle_rows = {700};
static int32_t many_targets[150]; /* all zero: a legal target */

static const op_case_t cases[] = {
    CASE(OP_EMBEDDING, NULL, "embedding", false, R2(7, 5), I1(7, ids)),
    CASE(OP_EMBEDDING, NULL, "embedding, one row", false, R2(7, 70), I1(1, ids)),
    CASE(OP_EMBEDDING, NULL, "embedding, no rows", false, R2(7, 5), I1(0, ids)),
    CASE(OP_ADD, NULL, "add", false, R2(3, 5), R2(3, 5)),
    CASE(OP_ADD, NULL, "add, several blocks", false, R2(37, 300), R2(37, 300)),
    CASE(OP_ADD, NULL, "add, no rows", false, R2(0, 5), R2(0, 5)),
    CASE(OP_RMSNORM, &rms, "rmsnorm", false, R2(5, 7), R1(7)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, wide", false, R2(9, 130), R1(130)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, one number", false, R2(1, 1), R1(1)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, no rows", false, R2(0, 7), R1(7)),
    CASE(OP_LAYERNORM, &layer, "layernorm", false, R2(5, 7), R1(7), R1(7)),
    CASE(OP_LAYERNORM, &layer, "layernorm, wide", false, R2(9, 130), R1(130), R1(130)),
    CASE(OP_LAYERNORM, &layer, "layernorm, no rows", false, R2(0, 7), R1(7), R1(7)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm", false, R2(5, 7), R2(5, 7), R1(7)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, wide", false, R2(9, 130), R2(9, 130), R1(130)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, no rows", false, R2(0, 7), R2(0, 7), R1(7)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm", false, R2(5, 7), R2(5, 7), R1(7), R1(7)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, wide", false, R2(9, 130), R2(9, 130), R1(130), R1(130)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, no rows", false, R2(0, 7), R2(0, 7), R1(7), R1(7)),
    CASE(OP_LINEAR, NULL, "linear", false, R2(5, 7), R2(3, 7), R1(3)),
    CASE(OP_LINEAR, NULL, "linear without bias", false, R2(5, 7), R2(3, 7), ABSENT),
    CASE(OP_LINEAR, NULL, "linear, one row", false, R2(1, 33), R2(17, 33), R1(17)),
    CASE(OP_LINEAR, NULL, "linear, no rows", false, R2(0, 7), R2(3, 7), R1(3)),
    CASE(OP_LINEAR, NULL, "linear, several tiles", false, R2(300, 17), R2(1030, 17), R1(1030)),
    CASE(OP_LOWRANK, &lora, "lowrank", false, R2(5, 6), R2(5, 7), R2(2, 7), R2(6, 2), ABSENT),
    CASE(OP_LOWRANK, &lora, "lowrank, one row", true, R2(1, 6), R2(1, 9), R2(2, 9), R2(6, 2), K1(1, keys)),
    CASE(OP_LOWRANK, &lora, "lowrank, no rows", true, R2(0, 6), R2(0, 9), R2(2, 9), R2(6, 2), K1(0, keys)),
    CASE(OP_LOWRANK, &dropped, "lowrank with dropout", true, R2(7, 6), R2(7, 9), R2(3, 9), R2(6, 3), K1(7, keys)),
    CASE(OP_LOWRANK, &dropped, "lowrank, dropout off", false, R2(7, 6), R2(7, 9), R2(3, 9), R2(6, 3), K1(7, keys)),
    CASE(OP_LOWRANK, &dropped, "lowrank, several tiles", true, R2(300, 40), R2(300, 150), R2(8, 150), R2(40, 8),
         K1(300, keys)),
    CASE(OP_ROPE_TABLE, &table32, "rope_table", false, I1(7, positions)),
    CASE(OP_ROPE, NULL, "rope", false, R2(7, 12), R2(7, 6)),
    CASE(OP_ROPE, NULL, "rope, one row", false, R2(1, 16), R2(1, 16)),
    CASE(OP_ROPE, NULL, "rope, no rows", false, R2(0, 12), R2(0, 6)),
    CASE(OP_SILU_MUL, NULL, "silu_mul", false, R2(3, 7), R2(3, 7)),
    CASE(OP_SILU_MUL, NULL, "silu_mul, several blocks", false, R2(31, 401), R2(31, 401)),
    CASE(OP_SILU_MUL, NULL, "silu_mul, no rows", false, R2(0, 7), R2(0, 7)),
    CASE(OP_GELU, NULL, "gelu", false, R2(3, 7)),
    CASE(OP_GELU, NULL, "gelu, several blocks", false, R2(31, 401)),
    CASE(OP_COLS, &left, "cols, first", false, R2(4, 8)),
    CASE(OP_COLS, &middle, "cols, middle", false, R2(4, 8)),
    CASE(OP_COLS, &whole, "cols, all", false, R2(1, 8)),
    CASE(OP_COLS, &left, "cols, no rows", false, R2(0, 8)),
    CASE(OP_GATHER_ROWS, NULL, "gather_rows", false, R2(9, 5), I1(4, rows)),
    CASE(OP_GATHER_ROWS, NULL, "gather_rows, none", false, R2(9, 5), I1(0, rows)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy", false, R2(11, 6), R2(11, 6), I1(11, targets), W1(11)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy, one row", false, R2(1, 6), R2(11, 6), I1(1, targets),
         W1(1)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy, no rows", false, R2(0, 6), R2(11, 6), I1(0, targets),
         W1(0)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy, chunks", false, R2(150, 19), R2(1500, 19),
         I1(150, many_targets), W1(150)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy, a vocabulary of several tiles", false, R2(2, 8),
         R2(4601, 8), I1(2, targets), W1(2)),
    CASE(OP_LINEAR_CROSS_ENTROPY, &last_rows, "linear_cross_entropy, last rows", false, R2(11, 6), R2(11, 6),
         I1(11, targets), W1(11), V2(2, 6, &last_rows.first)),
    CASE(OP_LINEAR_CROSS_ENTROPY, &last_rows, "linear_cross_entropy, last rows of nothing", false, R2(0, 6), R2(11, 6),
         I1(0, targets), W1(0), V2(2, 6, &last_rows.first)),
    CASE(OP_LINEAR_CROSS_ENTROPY, &middle_rows, "linear_cross_entropy, middle rows", false, R2(150, 19), R2(1500, 19),
         I1(150, many_targets), W1(150), V2(300, 19, &middle_rows.first)),
};
const op_cases_t op_cases_main = {cases, sizeof cases / sizeof *cases};
