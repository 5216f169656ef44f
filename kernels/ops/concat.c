#include "kernels/ops/check.h"
#include "kernels/ops/concat.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "concat";
    const view_t *a = &in[CONCAT_A], *b = &in[CONCAT_B];
    TRY(check_real(op, "a", a, 2, a->dtype));
    TRY(check_real(op, "b", b, 2, a->dtype));
    TRY(check_dim(op, "b", b, 0, a->dim[0]));
    TRY(check_positive(op, "the row length of a", a->dim[1]));
    TRY(check_positive(op, "the row length of b", b->dim[1]));
    view_set2(&out[0], a->dtype, a->dim[0], a->dim[1] + b->dim[1]);
    return ST_OK;
}

const op_def_t op_def_concat = {
    .name = "concat",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << CONCAT_A | 1u << CONCAT_B,
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
