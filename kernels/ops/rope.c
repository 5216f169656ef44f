#include "kernels/ops/check.h"
#include "kernels/ops/rope.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "rope";
    const view_t *x = &in[ROPE_X], *table = &in[ROPE_TABLE_IN];
    TRY(check_real(op, "x", x, 2, x->dtype));
    TRY(check_real(op, "table", table, 2, dtype_of_statistics(x->dtype)));
    TRY(check_dim(op, "table", table, 0, x->dim[0]));
    TRY(check_positive(op, "the head size", table->dim[1]));
    if (table->dim[1] % 2 != 0 || x->dim[1] % table->dim[1] != 0)
        return st_raise(ST_INTERNAL, op, "a head size of %lld does not fit rows of %lld; make the shapes agree",
                        (long long)table->dim[1], (long long)x->dim[1]);
    view_set2(&out[0], x->dtype, x->dim[0], x->dim[1]);
    return ST_OK;
}

const op_def_t op_def_rope = {
    .name = "rope",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << ROPE_X,
    .need = {[ROPE_X] = NEED_IN(ROPE_TABLE_IN)},
    .inplace = ROPE_X,
    .passthrough = ROPE_X,
    .infer = infer,
};
