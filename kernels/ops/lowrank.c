#include "kernels/ops/check.h"
#include "kernels/ops/lowrank.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "lowrank";
    const lowrank_attr_t *at = attr;
    const view_t *y = &in[LOWRANK_Y], *x = &in[LOWRANK_X], *a = &in[LOWRANK_A], *b = &in[LOWRANK_B];
    TRY(check_real(op, "y", y, 2, y->dtype));
    TRY(check_real(op, "x", x, 2, y->dtype));
    TRY(check_weight(op, "A", a, 2, y->dtype));
    TRY(check_weight(op, "B", b, 2, y->dtype));
    TRY(check_positive(op, "the rank", a->dim[0]));
    TRY(check_positive(op, "the number of inputs", a->dim[1]));
    TRY(check_positive(op, "the number of outputs", y->dim[1]));
    TRY(check_dim(op, "x", x, 0, y->dim[0]));
    TRY(check_dim(op, "x", x, 1, a->dim[1]));
    TRY(check_dim(op, "B", b, 0, y->dim[1]));
    TRY(check_dim(op, "B", b, 1, a->dim[0]));
    if (!(at->dropout >= 0 && at->dropout < 1))
        return st_raise(ST_INTERNAL, op, "dropout is %g; it must be in [0, 1)", at->dropout);
    if (!view_absent(&in[LOWRANK_KEY])) {
        TRY(check_tensor(op, "key", &in[LOWRANK_KEY], 1, DT_U64));
        TRY(check_dim(op, "key", &in[LOWRANK_KEY], 0, y->dim[0]));
    } else if (at->dropout > 0) {
        return st_raise(ST_INTERNAL, op, "dropout is %g without keys; pass the keys of the tokens", at->dropout);
    }
    view_set2(&out[LOWRANK_OUT], y->dtype, y->dim[0], y->dim[1]);
    view_set2(&out[LOWRANK_T], dtype_of_statistics(y->dtype), y->dim[0], a->dim[0]);
    return ST_OK;
}

/* The key is in two rows because the mask is made again from it. */
const op_def_t op_def_lowrank = {
    .name = "lowrank",
    .n_in = 5,
    .n_out = 2,
    .optional = 1u << LOWRANK_KEY,
    .differentiable = 1u << LOWRANK_Y | 1u << LOWRANK_X | 1u << LOWRANK_A | 1u << LOWRANK_B,
    .need = {[LOWRANK_X] = NEED_IN(LOWRANK_A) | NEED_IN(LOWRANK_B) | NEED_IN(LOWRANK_KEY),
             [LOWRANK_A] = NEED_IN(LOWRANK_X) | NEED_IN(LOWRANK_B) | NEED_IN(LOWRANK_KEY),
             [LOWRANK_B] = NEED_OUT(LOWRANK_T)},
    .inplace = LOWRANK_Y,
    .passthrough = LOWRANK_Y,
    .infer = infer,
};
