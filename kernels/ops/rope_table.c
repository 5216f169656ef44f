#include "kernels/ops/check.h"
#include "kernels/ops/rope_table.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "rope_table";
    const rope_table_attr_t *at = attr;
    TRY(check_tensor(op, "positions", &in[ROPE_TABLE_POSITIONS], 1, DT_I32));
    TRY(check_positive(op, "half", at->half));
    if (at->real != DT_F32 && at->real != DT_F64)
        return st_raise(ST_INTERNAL, op, "the table's type is neither f32 nor f64; set attr.real");
    view_set2(&out[0], at->real, in[ROPE_TABLE_POSITIONS].dim[0], 2 * at->half);
    return ST_OK;
}

const op_def_t op_def_rope_table = {
    .name = "rope_table",
    .n_in = 1,
    .n_out = 1,
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
