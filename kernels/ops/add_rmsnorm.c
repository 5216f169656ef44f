#include "kernels/ops/check.h"
#include "kernels/ops/add_rmsnorm.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "add_rmsnorm";
    const view_t *a = &in[ADD_RMSNORM_A];
    TRY(check_real(op, "a", a, 2, a->dtype));
    TRY(check_positive(op, "the row length", a->dim[1]));
    TRY(check_same(op, "b", &in[ADD_RMSNORM_B], a));
    TRY(check_weight(op, "w", &in[ADD_RMSNORM_W], 1, a->dtype));
    TRY(check_dim(op, "w", &in[ADD_RMSNORM_W], 0, a->dim[1]));
    view_set2(&out[ADD_RMSNORM_S], a->dtype, a->dim[0], a->dim[1]);
    view_set2(&out[ADD_RMSNORM_Y], a->dtype, a->dim[0], a->dim[1]);
    view_set1(&out[ADD_RMSNORM_RSTD], dtype_of_statistics(a->dtype), a->dim[0]);
    return ST_OK;
}

enum { SUM_NEEDS = NEED_OUT(ADD_RMSNORM_S) | NEED_IN(ADD_RMSNORM_W) | NEED_OUT(ADD_RMSNORM_RSTD) };

const op_def_t op_def_add_rmsnorm = {
    .name = "add_rmsnorm",
    .n_in = 3,
    .n_out = 3,
    .differentiable = 1u << ADD_RMSNORM_A | 1u << ADD_RMSNORM_B | 1u << ADD_RMSNORM_W,
    .need = {[ADD_RMSNORM_A] = SUM_NEEDS,
             [ADD_RMSNORM_B] = SUM_NEEDS,
             [ADD_RMSNORM_W] = NEED_OUT(ADD_RMSNORM_S) | NEED_OUT(ADD_RMSNORM_RSTD)},
    .remake = 1u << ADD_RMSNORM_Y,
    .remake_reads = NEED_OUT(ADD_RMSNORM_S) | NEED_IN(ADD_RMSNORM_W),
    .inplace = ADD_RMSNORM_A,
    .passthrough = ADD_RMSNORM_A,
    .second = true,
    .infer = infer,
};
