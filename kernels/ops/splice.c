#include "kernels/ops/check.h"
#include "kernels/ops/splice.h"

static status_t check_attr(const splice_attr_t *at, const view_t *t) {
    const char *op = "splice";
    TRY(check_positive(op, "the number of rows of the table that are used", at->count));
    TRY(check_positive(op, "the row length", at->width));
    if (at->count > t->dim[0])
        return st_raise(ST_INTERNAL, op, "input T has %lld rows, not the %d that are used; make the shapes agree",
                        (long long)t->dim[0], at->count);
    if ((int64_t)at->first + at->count - 1 > INT32_MAX)
        return st_raise(ST_INTERNAL, op, "%d numbers from %d on do not fit into 32 bits; take smaller numbers",
                        at->count, at->first);
    if (at->col < 0 || at->col > t->dim[1] || at->width > t->dim[1] - at->col)
        return st_raise(ST_INTERNAL, op, "columns %lld to %lld + %lld are not in rows of %lld; make the shapes agree",
                        (long long)at->col, (long long)at->col, (long long)at->width, (long long)t->dim[1]);
    return ST_OK;
}

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "splice";
    const splice_attr_t *at = attr;
    const view_t *x = &in[SPLICE_X], *t = &in[SPLICE_T], *index = &in[SPLICE_INDEX];
    TRY(check_real(op, "T", t, 2, t->dtype));
    TRY(check_tensor(op, "index", index, 1, DT_I32));
    TRY(check_attr(at, t));
    if (!view_absent(x)) {
        TRY(check_real(op, "x", x, 2, x->dtype));
        TRY(check_weight(op, "T", t, 2, x->dtype));
        TRY(check_dim(op, "x", x, 0, index->dim[0]));
        TRY(check_dim(op, "x", x, 1, at->width));
    }
    view_set2(&out[0], view_absent(x) ? t->dtype : x->dtype, index->dim[0], at->width);
    return ST_OK;
}

const op_def_t op_def_splice = {
    .name = "splice",
    .n_in = 3,
    .n_out = 1,
    .optional = 1u << SPLICE_X,
    .differentiable = 1u << SPLICE_X | 1u << SPLICE_T,
    .need = {[SPLICE_X] = NEED_IN(SPLICE_INDEX), [SPLICE_T] = NEED_IN(SPLICE_INDEX)},
    .inplace = SPLICE_X,
    .passthrough = SPLICE_X,
    .infer = infer,
};
