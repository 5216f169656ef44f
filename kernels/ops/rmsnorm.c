#include "kernels/ops/check.h"
#include "kernels/ops/rmsnorm.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "rmsnorm";
    const view_t *x = &in[RMSNORM_X];
    TRY(check_real(op, "x", x, 2, x->dtype));
    TRY(check_positive(op, "the row length", x->dim[1]));
    TRY(check_weight(op, "w", &in[RMSNORM_W], 1, x->dtype));
    TRY(check_dim(op, "w", &in[RMSNORM_W], 0, x->dim[1]));
    view_set2(&out[RMSNORM_Y], x->dtype, x->dim[0], x->dim[1]);
    view_set1(&out[RMSNORM_RSTD], dtype_of_statistics(x->dtype), x->dim[0]);
    return ST_OK;
}

const op_def_t op_def_rmsnorm = {
    .name = "rmsnorm",
    .n_in = 2,
    .n_out = 2,
    .differentiable = 1u << RMSNORM_X | 1u << RMSNORM_W,
    .need = {[RMSNORM_X] = NEED_IN(RMSNORM_X) | NEED_IN(RMSNORM_W) | NEED_OUT(RMSNORM_RSTD),
             [RMSNORM_W] = NEED_IN(RMSNORM_X) | NEED_OUT(RMSNORM_RSTD)},
    .remake = 1u << 0,
    .remake_reads = NEED_IN(RMSNORM_X) | NEED_IN(RMSNORM_W),
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
