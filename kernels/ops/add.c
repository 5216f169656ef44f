#include "kernels/ops/check.h"
#include "kernels/ops/add.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "add";
    TRY(check_real(op, "a", &in[ADD_A], 2, in[ADD_A].dtype));
    TRY(check_same(op, "b", &in[ADD_B], &in[ADD_A]));
    view_set2(&out[0], in[ADD_A].dtype, in[ADD_A].dim[0], in[ADD_A].dim[1]);
    return ST_OK;
}

const op_def_t op_def_add = {
    .name = "add",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << ADD_A | 1u << ADD_B,
    .inplace = ADD_A,
    .passthrough = ADD_A,
    .infer = infer,
};
