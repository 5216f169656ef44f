#include "kernels/ref/ref.h"

#define WITH_SCRATCH(name)                                                                                             \
    { REF(ref_##name##_fwd), REF(ref_##name##_bwd), REF(ref_##name##_scratch) }
#define NO_SCRATCH(name)                                                                                               \
    { REF(ref_##name##_fwd), REF(ref_##name##_bwd), NULL }
#define FORWARD_ONLY(name)                                                                                             \
    { REF(ref_##name##_fwd), NULL, NULL }

const backend_t REF(backend_ref) = {
#if defined(GRAFT_REF_f32)
    .name = "ref_f32",
    .real = DT_F32,
    .weight = DT_F32,
    .vector = &vector_cpu,
#else
    .name = "ref_f64",
    .real = DT_F64,
    .weight = DT_F64,
#endif
    .kernel =
        {
            [OP_EMBEDDING] = NO_SCRATCH(embedding),
            [OP_ADD] = NO_SCRATCH(add),
            [OP_RMSNORM] = NO_SCRATCH(rmsnorm),
            [OP_LAYERNORM] = NO_SCRATCH(layernorm),
            [OP_ADD_RMSNORM] = WITH_SCRATCH(add_rmsnorm),
            [OP_ADD_LAYERNORM] = WITH_SCRATCH(add_layernorm),
            [OP_LINEAR] = NO_SCRATCH(linear),
            [OP_ROUTED_LINEAR] = NO_SCRATCH(routed_linear),
            [OP_LOWRANK] = WITH_SCRATCH(lowrank),
            [OP_ROPE_TABLE] = FORWARD_ONLY(rope_table),
            [OP_ROPE] = NO_SCRATCH(rope),
            [OP_ATTENTION] = WITH_SCRATCH(attention),
            [OP_ATTENTION_CACHED] = {REF(ref_attention_cached_fwd), NULL, REF(ref_attention_cached_scratch)},
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
