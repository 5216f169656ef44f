#include "kernels/ops/check.h"
#include "kernels/ops/embedding.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const embedding_attr_t *at = attr;
    const char *op = "embedding";
    dtype_t real = at ? at->real : in[EMBEDDING_E].dtype;
    TRY(check_weight(op, "E", &in[EMBEDDING_E], 2, real));
    TRY(check_tensor(op, "ids", &in[EMBEDDING_IDS], 1, DT_I32));
    view_set2(&out[0], real, in[EMBEDDING_IDS].dim[0], in[EMBEDDING_E].dim[1]);
    return ST_OK;
}

const op_def_t op_def_embedding = {
    .name = "embedding",
    .n_in = 2,
    .n_out = 1,
    .differentiable = 1u << EMBEDDING_E,
    .need = {[EMBEDDING_E] = NEED_IN(EMBEDDING_IDS)},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
