/* Cases of round sizes: rows of whole 16-byte pieces, heads of 32 to 128, ranks of 8 and 16. Kernels for devices take
 * other paths there than at the odd sizes of the other lists, and most models have such sizes. */
#include "kernels/ops/activation.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"
#include "kernels/ops/cols.h"
#include "kernels/ops/layernorm.h"
#include "kernels/ops/linear_cross_entropy.h"
#include "kernels/ops/lowrank.h"
#include "kernels/ops/lstm.h"
#include "kernels/ops/rmsnorm.h"
#include "kernels/ops/rope_table.h"
#include "kernels/ops/routed_linear.h"
#include "kernels/ops/splice.h"
#include "kernels/ops/value_weight.h"
#include "tests/op/case_macros.h"

static const rmsnorm_attr_t rms = {1e-6};
static const layernorm_attr_t layer = {1e-5};
static const lowrank_attr_t lora = {2.0, 0.0, 3}, dropped = {0.5, 0.25, 7};
static const uint64_t keys[130] = {1, 2, 3, (uint64_t)5 << 32, [129] = 77};
static const int32_t ids[40] = {4, 4, 0, 8, 4, [39] = 8};
static const int32_t rows[70] = {3, 39, 0, 7, 8, 9, 10, [69] = 38};
static const cols_attr_t third = {64, 64};

static const attention_attr_t head32 = {2, 2, 32, 0.18}, head64 = {2, 1, 64, 0.125}, head128 = {2, 1, 128, 0.09},
                              head80 = {1, 1, 80, 0.11};
static const int32_t cu50[] = {0, 17, 17, 50}, cu70[] = {0, 70}, cu40[] = {0, 1, 40};
static const int32_t prefix16[] = {0, 8, 12, 16}, prefix70[] = {0, 70}, prefix5[] = {0, 5, 5};

static const attention_cached_attr_t cached64 = {4, 2, 64, 80, 0.125}, cached128 = {2, 1, 128, 48, 0.09};
static const int32_t past[] = {60, 0, 7}, cu_step[] = {0, 1, 2, 3}, cu_chunk[] = {0, 20, 20, 40}, past0[] = {0, 0, 0};
static const int32_t prefix8[] = {0, 8, 8, 12};

static const int32_t targets[130] = {0, 263, 17, 100, [128] = 5, 200};
static const linear_cross_entropy_attr_t last_rows = {256};
static const routed_linear_attr_t two = {2};
static const int32_t cu_routed[] = {0, 64, 65, 100}, expert[] = {1, 0, 1};
static const splice_attr_t tens = {10, 8, 64, 64};
static const int32_t index40[40] = {9, 17, 9, 12, 18, 10, [39] = 11};
static const activation_attr_t hyperbolic = {ACTIVATION_TANH};
static const lstm_attr_t onwards = {false}, backwards = {true};
static const value_weight_attr_t half = {0.5, 1};

static const op_case_t cases[] = {
    CASE(OP_EMBEDDING, NULL, "embedding, even", false, R2(9, 64), I1(40, ids)),
    CASE(OP_ADD, NULL, "add, even", false, R2(33, 256), R2(33, 256)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, even", false, R2(70, 64), R1(64)),
    CASE(OP_RMSNORM, &rms, "rmsnorm, long rows", false, R2(3, 2048), R1(2048)),
    CASE(OP_LAYERNORM, &layer, "layernorm, even", false, R2(70, 64), R1(64), R1(64)),
    CASE(OP_LAYERNORM, &layer, "layernorm, long rows", false, R2(3, 2048), R1(2048), R1(2048)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, even", false, R2(70, 64), R2(70, 64), R1(64)),
    CASE(OP_ADD_RMSNORM, &rms, "add_rmsnorm, long rows", false, R2(3, 2048), R2(3, 2048), R1(2048)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, even", false, R2(70, 64), R2(70, 64), R1(64), R1(64)),
    CASE(OP_ADD_LAYERNORM, &layer, "add_layernorm, long rows", false, R2(3, 2048), R2(3, 2048), R1(2048), R1(2048)),
    CASE(OP_LINEAR, NULL, "linear, even", false, R2(70, 64), R2(96, 64), R1(96)),
    CASE(OP_LINEAR, NULL, "linear, even tiles", false, R2(128, 128), R2(256, 128), ABSENT),
    CASE(OP_LINEAR, NULL, "linear, one even row", false, R2(1, 256), R2(64, 256), R1(64)),
    CASE(OP_LOWRANK, &lora, "lowrank, even", false, R2(70, 64), R2(70, 96), R2(8, 96), R2(64, 8), ABSENT),
    CASE(OP_LOWRANK, &dropped, "lowrank, even, dropout", true, R2(130, 128), R2(130, 64), R2(16, 64), R2(128, 16),
         K1(130, keys)),
    CASE(OP_LOWRANK, &lora, "lowrank, rank 64", false, R2(40, 64), R2(40, 64), R2(64, 64), R2(64, 64), ABSENT),
    CASE(OP_ROPE, NULL, "rope, even", false, R2(40, 128), R2(40, 64)),
    CASE(OP_ATTENTION, &head32, "attention, heads of 32", false, R2(50, 64), R2(50, 64), R2(50, 64), I1(4, cu50)),
    CASE(OP_ATTENTION, &head64, "attention, heads of 64", false, R2(70, 128), R2(70, 64), R2(70, 64), I1(2, cu70)),
    CASE(OP_ATTENTION, &head128, "attention, heads of 128", false, R2(50, 256), R2(50, 128), R2(50, 128), I1(4, cu50)),
    CASE(OP_ATTENTION, &head80, "attention, heads of 80", false, R2(40, 80), R2(40, 80), R2(40, 80), I1(3, cu40),
         R2(5, 80), R2(5, 80), I1(3, prefix5)),
    CASE(OP_ATTENTION, &head64, "attention, heads of 64, prefix", false, R2(50, 128), R2(50, 64), R2(50, 64),
         I1(4, cu50), R2(16, 64), R2(16, 64), I1(4, prefix16)),
    CASE(OP_ATTENTION, &head128, "attention, heads of 128, prefix", false, R2(70, 256), R2(70, 128), R2(70, 128),
         I1(2, cu70), R2(70, 128), R2(70, 128), I1(2, prefix70)),
    CASE(OP_ATTENTION_CACHED, &cached64, "attention_cached, one token each", false, R2(3, 256), R2(3, 128), R2(3, 128),
         I1(4, cu_step), I1(3, past), R3(2, 240, 128)),
    CASE(OP_ATTENTION_CACHED, &cached128, "attention_cached, even, prefix", false, R2(40, 256), R2(40, 128),
         R2(40, 128), I1(4, cu_chunk), I1(3, past0), R3(2, 144, 128), R2(12, 128), R2(12, 128), I1(4, prefix8)),
    CASE(OP_SILU_MUL, NULL, "silu_mul, even", false, R2(33, 256), R2(33, 256)),
    CASE(OP_GELU, NULL, "gelu, even", false, R2(33, 256)),
    CASE(OP_COLS, &third, "cols, even", false, R2(40, 192)),
    CASE(OP_GATHER_ROWS, NULL, "gather_rows, even", false, R2(40, 64), I1(7, rows)),
    CASE(OP_LINEAR_CROSS_ENTROPY, NULL, "linear_cross_entropy, even", false, R2(130, 64), R2(264, 64), I1(130, targets),
         W1(130)),
    CASE(OP_LINEAR_CROSS_ENTROPY, &last_rows, "linear_cross_entropy, even, trained rows", false, R2(130, 64),
         R2(264, 64), I1(130, targets), W1(130), V2(8, 64, &last_rows.first)),
    CASE(OP_ROUTED_LINEAR, &two, "routed_linear, even", false, R2(100, 64), R2(192, 64), R1(192), I1(4, cu_routed),
         I1(3, expert)),
    CASE(OP_SPLICE, &tens, "splice, even", false, R2(40, 64), R2(8, 192), I1(40, index40)),
    CASE(OP_ACTIVATION, &hyperbolic, "tanh, even", false, R2(33, 256)),
    CASE(OP_CONCAT, NULL, "concat, even", false, R2(40, 64), R2(40, 128)),
    CASE(OP_LSTM, &onwards, "lstm, even", false, R2(5, 64), R2(256, 64), R2(256, 64), R1(256), R1(256)),
    CASE(OP_LSTM, &backwards, "lstm, even, reverse", false, R2(5, 32), R2(256, 32), R2(256, 64), R1(256), R1(256)),
    CASE(OP_VALUE_WEIGHT, &half, "value_weight, even", false, R2(70, 64), R1(64), W1(70), W1(70)),
};
const op_cases_t op_cases_even = {cases, sizeof cases / sizeof *cases};
