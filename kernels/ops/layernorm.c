#include "kernels/ops/check.h"
#include "kernels/ops/layernorm.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "layernorm";
    const view_t *x = &in[LAYERNORM_X];
    TRY(check_real(op, "x", x, 2, x->dtype));
    TRY(check_positive(op, "the row length", x->dim[1]));
    TRY(check_weight(op, "w", &in[LAYERNORM_W], 1, x->dtype));
    TRY(check_dim(op, "w", &in[LAYERNORM_W], 0, x->dim[1]));
    TRY(check_weight(op, "b", &in[LAYERNORM_B], 1, x->dtype));
    TRY(check_dim(op, "b", &in[LAYERNORM_B], 0, x->dim[1]));
    view_set2(&out[LAYERNORM_Y], x->dtype, x->dim[0], x->dim[1]);
    view_set2(&out[LAYERNORM_STAT], dtype_of_statistics(x->dtype), x->dim[0], 2);
    return ST_OK;
}

const op_def_t op_def_layernorm = {
    .name = "layernorm",
    .n_in = 3,
    .n_out = 2,
    .differentiable = 1u << LAYERNORM_X | 1u << LAYERNORM_W | 1u << LAYERNORM_B,
    .need = {[LAYERNORM_X] = NEED_IN(LAYERNORM_X) | NEED_IN(LAYERNORM_W) | NEED_OUT(LAYERNORM_STAT),
             [LAYERNORM_W] = NEED_IN(LAYERNORM_X) | NEED_OUT(LAYERNORM_STAT)},
    .remake = 1u << 0,
    .remake_reads = NEED_IN(LAYERNORM_X) | NEED_IN(LAYERNORM_W) | NEED_IN(LAYERNORM_B),
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
