#include "kernels/ops/check.h"
#include "kernels/ops/attention_cached.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "attention_cached";
    const attention_cached_attr_t *at = attr;
    const view_t *q = &in[ATTENTION_CACHED_Q], *k = &in[ATTENTION_CACHED_K], *cache = &in[ATTENTION_CACHED_CACHE];
    const view_t *cu = &in[ATTENTION_CACHED_CU], *past = &in[ATTENTION_CACHED_PAST];
    TRY(check_positive(op, "heads", at->heads));
    TRY(check_positive(op, "kv_heads", at->kv_heads));
    TRY(check_positive(op, "head_dim", at->head_dim));
    TRY(check_positive(op, "places", at->places));
    if (at->heads % at->kv_heads != 0)
        return st_raise(ST_INTERNAL, op, "%lld heads cannot share %lld key heads; make it a multiple",
                        (long long)at->heads, (long long)at->kv_heads);
    TRY(check_real(op, "q", q, 2, q->dtype));
    TRY(check_real(op, "k", k, 2, q->dtype));
    TRY(check_dim(op, "q", q, 1, at->heads * at->head_dim));
    TRY(check_dim(op, "k", k, 0, q->dim[0]));
    TRY(check_dim(op, "k", k, 1, at->kv_heads * at->head_dim));
    TRY(check_same(op, "v", &in[ATTENTION_CACHED_V], k));
    TRY(check_tensor(op, "cu_seqlens", cu, 1, DT_I32));
    TRY(check_positive(op, "the length of cu_seqlens", cu->dim[0]));
    TRY(check_tensor(op, "past", past, 1, DT_I32));
    TRY(check_dim(op, "past", past, 0, cu->dim[0] - 1));
    TRY(check_real(op, "cache", cache, 3, q->dtype));
    TRY(check_dim(op, "cache", cache, 0, 2));
    TRY(check_dim(op, "cache", cache, 2, k->dim[1]));
    if (cache->dim[1] % at->places != 0)
        return st_raise(ST_INTERNAL, op, "a cache of %lld rows has no whole slots of %lld places; make it larger",
                        (long long)cache->dim[1], (long long)at->places);
    view_set2(&out[0], q->dtype, q->dim[0], q->dim[1]);
    return ST_OK;
}

const op_def_t op_def_attention_cached = {
    .name = "attention_cached",
    .n_in = 6,
    .n_out = 1,
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
