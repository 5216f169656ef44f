#include "kernels/ops/check.h"
#include "kernels/ops/add_layernorm.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "add_layernorm";
    const view_t *a = &in[ADD_LAYERNORM_A];
    TRY(check_real(op, "a", a, 2, a->dtype));
    TRY(check_positive(op, "the row length", a->dim[1]));
    TRY(check_same(op, "b", &in[ADD_LAYERNORM_B], a));
    TRY(check_weight(op, "w", &in[ADD_LAYERNORM_W], 1, a->dtype));
    TRY(check_dim(op, "w", &in[ADD_LAYERNORM_W], 0, a->dim[1]));
    TRY(check_weight(op, "bias", &in[ADD_LAYERNORM_BIAS], 1, a->dtype));
    TRY(check_dim(op, "bias", &in[ADD_LAYERNORM_BIAS], 0, a->dim[1]));
    view_set2(&out[ADD_LAYERNORM_S], a->dtype, a->dim[0], a->dim[1]);
    view_set2(&out[ADD_LAYERNORM_Y], a->dtype, a->dim[0], a->dim[1]);
    view_set2(&out[ADD_LAYERNORM_STAT], dtype_of_statistics(a->dtype), a->dim[0], 2);
    return ST_OK;
}

enum { SUM_NEEDS = NEED_OUT(ADD_LAYERNORM_S) | NEED_IN(ADD_LAYERNORM_W) | NEED_OUT(ADD_LAYERNORM_STAT) };

const op_def_t op_def_add_layernorm = {
    .name = "add_layernorm",
    .n_in = 4,
    .n_out = 3,
    .differentiable = 1u << ADD_LAYERNORM_A | 1u << ADD_LAYERNORM_B | 1u << ADD_LAYERNORM_W | 1u << ADD_LAYERNORM_BIAS,
    .need = {[ADD_LAYERNORM_A] = SUM_NEEDS,
             [ADD_LAYERNORM_B] = SUM_NEEDS,
             [ADD_LAYERNORM_W] = NEED_OUT(ADD_LAYERNORM_S) | NEED_OUT(ADD_LAYERNORM_STAT)},
    .remake = 1u << ADD_LAYERNORM_Y,
    .remake_reads = NEED_OUT(ADD_LAYERNORM_S) | NEED_IN(ADD_LAYERNORM_W) | NEED_IN(ADD_LAYERNORM_BIAS),
    .inplace = ADD_LAYERNORM_A,
    .passthrough = ADD_LAYERNORM_A,
    .second = true,
    .infer = infer,
};
