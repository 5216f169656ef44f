#include "kernels/ops/check.h"
#include "kernels/ops/silu_mul.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "silu_mul";
    const view_t *g = &in[SILU_MUL_G];
    TRY(check_real(op, "g", g, 2, g->dtype));
    TRY(check_same(op, "u", &in[SILU_MUL_U], g));
    view_set2(&out[0], g->dtype, g->dim[0], g->dim[1]);
    return ST_OK;
}

const op_def_t op_def_silu_mul = {
    .name = "silu_mul",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << SILU_MUL_G | 1u << SILU_MUL_U,
    .need = {[SILU_MUL_G] = NEED_IN(SILU_MUL_G) | NEED_IN(SILU_MUL_U), [SILU_MUL_U] = NEED_IN(SILU_MUL_G)},
    .remake = 1u << 0,
    .remake_reads = NEED_IN(SILU_MUL_G) | NEED_IN(SILU_MUL_U),
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
