#include "kernels/ops/check.h"
#include "kernels/ops/linear.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "linear";
    const view_t *x = &in[LINEAR_X], *w = &in[LINEAR_W], *b = &in[LINEAR_B];
    TRY(check_real(op, "x", x, 2, x->dtype));
    TRY(check_positive(op, "the row length", x->dim[1]));
    TRY(check_weight(op, "W", w, 2, x->dtype));
    TRY(check_dim(op, "W", w, 1, x->dim[1]));
    TRY(check_positive(op, "the number of outputs", w->dim[0]));
    if (!view_absent(b)) {
        TRY(check_weight(op, "b", b, 1, x->dtype));
        TRY(check_dim(op, "b", b, 0, w->dim[0]));
    }
    view_set2(&out[0], x->dtype, x->dim[0], w->dim[0]);
    return ST_OK;
}

const op_def_t op_def_linear = {
    .name = "linear",
    .n_in = 3,
    .n_out = 1,
    .optional = 1u << LINEAR_B,
    .differentiable = 1u << LINEAR_X | 1u << LINEAR_W | 1u << LINEAR_B,
    .need = {[LINEAR_X] = NEED_IN(LINEAR_W), [LINEAR_W] = NEED_IN(LINEAR_X)},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
