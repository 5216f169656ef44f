#include "kernels/ops/check.h"
#include "kernels/ops/linear_cross_entropy.h"

static status_t check_rows(const linear_cross_entropy_attr_t *at, const view_t *w, const view_t *t) {
    const char *op = "linear_cross_entropy";
    TRY(check_weight(op, "T", t, 2, w->dtype));
    TRY(check_dim(op, "T", t, 1, w->dim[1]));
    TRY(check_positive(op, "the number of rows of T", t->dim[0]));
    if (!at || at->first < 0 || at->first > w->dim[0] - t->dim[0])
        return st_raise(ST_INTERNAL, op, "%lld rows from %lld on are not all in a W of %lld; make the shapes agree",
                        (long long)t->dim[0], at ? (long long)at->first : -1, (long long)w->dim[0]);
    return ST_OK;
}

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "linear_cross_entropy";
    const view_t *h = &in[LCE_H], *w = &in[LCE_W];
    TRY(check_real(op, "h", h, 2, h->dtype));
    TRY(check_positive(op, "the row length", h->dim[1]));
    TRY(check_weight(op, "W", w, 2, h->dtype));
    TRY(check_dim(op, "W", w, 1, h->dim[1]));
    TRY(check_positive(op, "the vocabulary", w->dim[0]));
    TRY(check_tensor(op, "targets", &in[LCE_TARGETS], 1, DT_I32));
    TRY(check_dim(op, "targets", &in[LCE_TARGETS], 0, h->dim[0]));
    TRY(check_tensor(op, "weights", &in[LCE_WEIGHTS], 1, DT_F32));
    TRY(check_dim(op, "weights", &in[LCE_WEIGHTS], 0, h->dim[0]));
    if (!view_absent(&in[LCE_T])) TRY(check_rows(attr, w, &in[LCE_T]));
    view_set1(&out[LCE_LOSS], DT_F64, 1);
    view_set2(&out[LCE_DH], h->dtype, h->dim[0], h->dim[1]);
    view_set1(&out[LCE_NLL], DT_F32, h->dim[0]);
    return ST_OK;
}

enum {
    WEIGHT_NEED = NEED_IN(LCE_H) | NEED_IN(LCE_W) | NEED_IN(LCE_TARGETS) | NEED_IN(LCE_WEIGHTS) | NEED_OUT(LCE_NLL)
};

const op_def_t op_def_linear_cross_entropy = {
    .name = "linear_cross_entropy",
    .n_in = 5,
    .n_out = 3,
    .optional = 1u << LCE_T,
    .differentiable = 1u << LCE_H | 1u << LCE_W | 1u << LCE_T,
    .need = {[LCE_H] = NEED_OUT(LCE_DH), [LCE_W] = WEIGHT_NEED, [LCE_T] = WEIGHT_NEED},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
