#include "kernels/cpu/cpu.h"

/* clang-format off */
#define WITH_SCRATCH(name) {cpu_##name##_fwd, cpu_##name##_bwd, cpu_##name##_scratch}
#define NO_SCRATCH(name)   {cpu_##name##_fwd, cpu_##name##_bwd, NULL}
/* clang-format on */

const backend_t backend_cpu = {
    .name = "cpu",
    .real = DT_F32,
    .weight = DT_F32,
    .vector = &vector_cpu,
    .kernel =
        {
            [OP_EMBEDDING] = NO_SCRATCH(embedding),
            [OP_ADD] = NO_SCRATCH(add),
            [OP_RMSNORM] = NO_SCRATCH(rmsnorm),
            [OP_LAYERNORM] = NO_SCRATCH(layernorm),
            [OP_ADD_RMSNORM] = WITH_SCRATCH(add_rmsnorm),
            [OP_ADD_LAYERNORM] = WITH_SCRATCH(add_layernorm),
            [OP_LINEAR] = WITH_SCRATCH(linear),
            [OP_ROUTED_LINEAR] = WITH_SCRATCH(routed_linear),
            [OP_LOWRANK] = WITH_SCRATCH(lowrank),
            [OP_ROPE_TABLE] = {cpu_rope_table_fwd, NULL, NULL},
            [OP_ROPE] = NO_SCRATCH(rope),
            [OP_ATTENTION] = WITH_SCRATCH(attention),
            [OP_ATTENTION_CACHED] = {cpu_attention_cached_fwd, NULL, cpu_attention_cached_scratch},
            [OP_SILU_MUL] = NO_SCRATCH(silu_mul),
            [OP_GELU] = NO_SCRATCH(gelu),
            [OP_COLS] = NO_SCRATCH(cols),
            [OP_GATHER_ROWS] = NO_SCRATCH(gather_rows),
            [OP_LINEAR_CROSS_ENTROPY] = WITH_SCRATCH(linear_cross_entropy),
            [OP_SPLICE] = NO_SCRATCH(splice),
            [OP_ACTIVATION] = NO_SCRATCH(activation),
            [OP_CONCAT] = NO_SCRATCH(concat),
            [OP_LSTM] = WITH_SCRATCH(lstm),
            [OP_VALUE_WEIGHT] = NO_SCRATCH(value_weight),
        },
};
