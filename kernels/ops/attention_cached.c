#include "kernels/ops/attention_cached.h"
#include "kernels/ops/attention_check.h"

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    const char *op = "attention_cached";
    const attention_cached_attr_t *at = attr;
    const view_t *q = &in[ATTENTION_CACHED_Q], *k = &in[ATTENTION_CACHED_K], *cache = &in[ATTENTION_CACHED_CACHE];
    const view_t *past = &in[ATTENTION_CACHED_PAST];
    TRY(attention_check(op, at->heads, at->kv_heads, at->head_dim, in));
    TRY(attention_check_prefix(op, in, &in[ATTENTION_CACHED_PREFIX_K]));
    TRY(check_positive(op, "places", at->places));
    TRY(check_tensor(op, "past", past, 1, DT_I32));
    TRY(check_dim(op, "past", past, 0, in[ATTENTION_CACHED_CU].dim[0] - 1));
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
    .n_in = 9,
    .n_out = 1,
    .optional = 1u << ATTENTION_CACHED_PREFIX_K | 1u << ATTENTION_CACHED_PREFIX_V | 1u << ATTENTION_CACHED_CU_PREFIX,
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
