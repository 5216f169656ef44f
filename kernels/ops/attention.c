#include "kernels/ops/attention.h"
#include "kernels/ops/attention_check.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "attention";
    const attention_attr_t *at = attr;
    const view_t *q = &in[ATTENTION_Q];
    TRY(attention_check(op, at->heads, at->kv_heads, at->head_dim, in));
    TRY(attention_check_prefix(op, in, &in[ATTENTION_PREFIX_K]));
    view_set2(&out[ATTENTION_O], q->dtype, q->dim[0], q->dim[1]);
    view_set2(&out[ATTENTION_LSE], dtype_of_statistics(q->dtype), q->dim[0], at->heads);
    return ST_OK;
}

/* Probabilities are made again from q, lse and the keys in question, the sequence's own or its prefix's; o gives the
 * row sums of dp * p. So the gradient of either keys or values reads nothing of the other ones. */
enum {
    NEED_ROWS = NEED_IN(ATTENTION_Q) | NEED_IN(ATTENTION_CU) | NEED_OUT(ATTENTION_LSE),
    NEED_P = NEED_ROWS | NEED_IN(ATTENTION_K),
    NEED_DS = NEED_P | NEED_IN(ATTENTION_V) | NEED_OUT(ATTENTION_O),
    NEED_PREFIX_P = NEED_ROWS | NEED_IN(ATTENTION_PREFIX_K) | NEED_IN(ATTENTION_CU_PREFIX),
    NEED_PREFIX_DS = NEED_PREFIX_P | NEED_IN(ATTENTION_PREFIX_V) | NEED_OUT(ATTENTION_O),
};

const op_def_t op_def_attention = {
    .name = "attention",
    .n_in = 7,
    .n_out = 2,
    .optional = 1u << ATTENTION_PREFIX_K | 1u << ATTENTION_PREFIX_V | 1u << ATTENTION_CU_PREFIX,
    .differentiable =
        1u << ATTENTION_Q | 1u << ATTENTION_K | 1u << ATTENTION_V | 1u << ATTENTION_PREFIX_K | 1u << ATTENTION_PREFIX_V,
    .need = {[ATTENTION_Q] = NEED_DS | NEED_PREFIX_DS,
             [ATTENTION_K] = NEED_DS,
             [ATTENTION_V] = NEED_P,
             [ATTENTION_PREFIX_K] = NEED_PREFIX_DS,
             [ATTENTION_PREFIX_V] = NEED_PREFIX_P},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
