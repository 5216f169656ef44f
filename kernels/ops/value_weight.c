#include "kernels/ops/value_weight.h"
#include "kernels/ops/check.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "value_weight";
    const view_t *h = &in[VALUE_WEIGHT_H];
    TRY(check_real(op, "h", h, 2, h->dtype));
    TRY(check_positive(op, "the row length", h->dim[1]));
    TRY(check_weight(op, "v", &in[VALUE_WEIGHT_V], 1, h->dtype));
    TRY(check_dim(op, "v", &in[VALUE_WEIGHT_V], 0, h->dim[1]));
    TRY(check_tensor(op, "reward", &in[VALUE_WEIGHT_REWARD], 1, DT_F32));
    TRY(check_dim(op, "reward", &in[VALUE_WEIGHT_REWARD], 0, h->dim[0]));
    TRY(check_tensor(op, "weights", &in[VALUE_WEIGHT_WEIGHTS], 1, DT_F32));
    TRY(check_dim(op, "weights", &in[VALUE_WEIGHT_WEIGHTS], 0, h->dim[0]));
    view_set1(&out[VALUE_WEIGHT_LOSS], DT_F64, 1);
    view_set1(&out[VALUE_WEIGHT_WEIGHTED], DT_F32, h->dim[0]);
    view_set1(&out[VALUE_WEIGHT_VALUE], DT_F32, h->dim[0]);
    return ST_OK;
}

enum {
    ROW = NEED_IN(VALUE_WEIGHT_REWARD) | NEED_IN(VALUE_WEIGHT_WEIGHTS) | NEED_OUT(VALUE_WEIGHT_VALUE),
};

const op_def_t op_def_value_weight = {
    .name = "value_weight",
    .n_in = 4,
    .n_out = 3,
    .differentiable = 1u << VALUE_WEIGHT_H | 1u << VALUE_WEIGHT_V,
    .need = {[VALUE_WEIGHT_H] = ROW | NEED_IN(VALUE_WEIGHT_V), [VALUE_WEIGHT_V] = ROW | NEED_IN(VALUE_WEIGHT_H)},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
