#include "kernels/ops/check.h"
#include "kernels/ops/cols.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const cols_attr_t *at = attr;
    const view_t *x = &in[COLS_X];
    TRY(check_real("cols", "x", x, 2, x->dtype));
    if (at->first < 0 || at->count <= 0 || at->first > x->dim[1] || at->count > x->dim[1] - at->first)
        return st_raise(ST_INTERNAL, "cols",
                        "columns %lld to %lld + %lld are not in rows of %lld; make the shapes agree",
                        (long long)at->first, (long long)at->first, (long long)at->count, (long long)x->dim[1]);
    view_set2(&out[0], x->dtype, x->dim[0], at->count);
    return ST_OK;
}

const op_def_t op_def_cols = {
    .name = "cols",
    .n_in = 1,
    .n_out = 1,
    .differentiable = 1u << COLS_X,
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
