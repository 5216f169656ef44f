#include "kernels/ops/check.h"
#include "kernels/ops/activation.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const activation_attr_t *at = attr;
    const view_t *x = &in[ACTIVATION_X];
    TRY(check_real("activation", "x", x, 2, x->dtype));
    if (at->kind != ACTIVATION_TANH && at->kind != ACTIVATION_RELU)
        return st_raise(ST_INTERNAL, "activation", "there is no kind %d; take tanh or relu", (int)at->kind);
    view_set2(&out[0], x->dtype, x->dim[0], x->dim[1]);
    return ST_OK;
}

const op_def_t op_def_activation = {
    .name = "activation",
    .n_in = 1,
    .n_out = 1,
    .differentiable = 1u << ACTIVATION_X,
    .need = {[ACTIVATION_X] = NEED_OUT(0)},
    .inplace = ACTIVATION_X,
    .passthrough = ACTIVATION_X,
    .infer = infer,
};
