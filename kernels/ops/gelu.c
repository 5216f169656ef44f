#include "kernels/ops/check.h"
#include "kernels/ops/gelu.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const view_t *x = &in[GELU_X];
    TRY(check_real("gelu", "x", x, 2, x->dtype));
    view_set2(&out[0], x->dtype, x->dim[0], x->dim[1]);
    return ST_OK;
}

const op_def_t op_def_gelu = {
    .name = "gelu",
    .n_in = 1,
    .n_out = 1,
    .differentiable = 1u << GELU_X,
    .need = {[GELU_X] = NEED_IN(GELU_X)},
    .remake = 1u << 0,
    .remake_reads = NEED_IN(GELU_X),
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
