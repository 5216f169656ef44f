#include "kernels/ops/check.h"
#include "kernels/ops/gather_rows.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const view_t *x = &in[GATHER_ROWS_X];
    TRY(check_real("gather_rows", "x", x, 2, x->dtype));
    TRY(check_tensor("gather_rows", "rows", &in[GATHER_ROWS_ROWS], 1, DT_I32));
    view_set2(&out[0], x->dtype, in[GATHER_ROWS_ROWS].dim[0], x->dim[1]);
    return ST_OK;
}

const op_def_t op_def_gather_rows = {
    .name = "gather_rows",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << GATHER_ROWS_X,
    .need = {[GATHER_ROWS_X] = NEED_IN(GATHER_ROWS_ROWS)},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
