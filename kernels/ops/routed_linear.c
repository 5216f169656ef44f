#include "kernels/ops/routed_linear.h"
#include "kernels/ops/check.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "routed_linear";
    const routed_linear_attr_t *at = attr;
    const view_t *x = &in[ROUTED_LINEAR_X], *w = &in[ROUTED_LINEAR_W], *b = &in[ROUTED_LINEAR_B],
                 *cu = &in[ROUTED_LINEAR_CU], *expert = &in[ROUTED_LINEAR_EXPERT];
    TRY(check_real(op, "x", x, 2, x->dtype));
    TRY(check_positive(op, "the row length", x->dim[1]));
    TRY(check_weight(op, "W", w, 2, x->dtype));
    TRY(check_dim(op, "W", w, 1, x->dim[1]));
    TRY(check_positive(op, "the number of experts", at->experts));
    TRY(check_positive(op, "the number of outputs", w->dim[0] / at->experts));
    TRY(check_dim(op, "W", w, 0, w->dim[0] / at->experts * at->experts));
    if (!view_absent(b)) {
        TRY(check_weight(op, "b", b, 1, x->dtype));
        TRY(check_dim(op, "b", b, 0, w->dim[0]));
    }
    TRY(check_tensor(op, "expert", expert, 1, DT_I32));
    TRY(check_tensor(op, "cu_seqlens", cu, 1, DT_I32));
    TRY(check_dim(op, "cu_seqlens", cu, 0, expert->dim[0] + 1));
    view_set2(&out[0], x->dtype, x->dim[0], w->dim[0] / at->experts);
    return ST_OK;
}

enum { ROUTE = NEED_IN(ROUTED_LINEAR_CU) | NEED_IN(ROUTED_LINEAR_EXPERT) };

const op_def_t op_def_routed_linear = {
    .name = "routed_linear",
    .n_in = 5,
    .n_out = 1,
    .optional = 1u << ROUTED_LINEAR_B,
    .differentiable = 1u << ROUTED_LINEAR_X | 1u << ROUTED_LINEAR_W | 1u << ROUTED_LINEAR_B,
    .need = {[ROUTED_LINEAR_X] = ROUTE | NEED_IN(ROUTED_LINEAR_W),
             [ROUTED_LINEAR_W] = ROUTE | NEED_IN(ROUTED_LINEAR_X),
             [ROUTED_LINEAR_B] = ROUTE},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
