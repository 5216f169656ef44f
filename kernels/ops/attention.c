#include "kernels/ops/check.h"
#include "kernels/ops/attention.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "attention";
    const attention_attr_t *at = attr;
    const view_t *q = &in[ATTENTION_Q], *k = &in[ATTENTION_K], *v = &in[ATTENTION_V];
    TRY(check_positive(op, "heads", at->heads));
    TRY(check_positive(op, "kv_heads", at->kv_heads));
    TRY(check_positive(op, "head_dim", at->head_dim));
    if (at->heads % at->kv_heads != 0)
        return st_raise(ST_INTERNAL, op, "%lld heads cannot share %lld key heads; make it a multiple",
                        (long long)at->heads, (long long)at->kv_heads);
    TRY(check_real(op, "q", q, 2, q->dtype));
    TRY(check_real(op, "k", k, 2, q->dtype));
    TRY(check_dim(op, "q", q, 1, at->heads * at->head_dim));
    TRY(check_dim(op, "k", k, 0, q->dim[0]));
    TRY(check_dim(op, "k", k, 1, at->kv_heads * at->head_dim));
    TRY(check_same(op, "v", v, k));
    TRY(check_tensor(op, "cu_seqlens", &in[ATTENTION_CU], 1, DT_I32));
    TRY(check_positive(op, "the length of cu_seqlens", in[ATTENTION_CU].dim[0]));
    view_set2(&out[ATTENTION_O], q->dtype, q->dim[0], q->dim[1]);
    view_set2(&out[ATTENTION_LSE], q->dtype, q->dim[0], at->heads);
    return ST_OK;
}

/* Probabilities are made again from q, k and lse; o gives the row sums of dp * p. */
enum {
    NEED_P = NEED_IN(ATTENTION_Q) | NEED_IN(ATTENTION_K) | NEED_IN(ATTENTION_CU) | NEED_OUT(ATTENTION_LSE),
    NEED_DS = NEED_P | NEED_IN(ATTENTION_V) | NEED_OUT(ATTENTION_O),
};

const op_def_t op_def_attention = {
    .name = "attention",
    .n_in = 4,
    .n_out = 2,
    .differentiable = 1u << ATTENTION_Q | 1u << ATTENTION_K | 1u << ATTENTION_V,
    .need = {[ATTENTION_Q] = NEED_DS, [ATTENTION_K] = NEED_DS, [ATTENTION_V] = NEED_P},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
