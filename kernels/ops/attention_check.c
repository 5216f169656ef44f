#include "kernels/ops/attention_check.h"
#include "kernels/ops/attention.h"
#include "kernels/ops/attention_cached.h"

/* Both ops are checked through places in their lists of inputs. */
_Static_assert((int)ATTENTION_Q == (int)ATTENTION_CACHED_Q && (int)ATTENTION_K == (int)ATTENTION_CACHED_K &&
                   (int)ATTENTION_V == (int)ATTENTION_CACHED_V && (int)ATTENTION_CU == (int)ATTENTION_CACHED_CU,
               "the first inputs of both ops are the same");
_Static_assert(ATTENTION_CU_PREFIX - ATTENTION_PREFIX_K == 2 && ATTENTION_PREFIX_V - ATTENTION_PREFIX_K == 1,
               "prefix keys, prefix values and cu_prefix follow each other");
_Static_assert(ATTENTION_CACHED_CU_PREFIX - ATTENTION_CACHED_PREFIX_K == 2 &&
                   ATTENTION_CACHED_PREFIX_V - ATTENTION_CACHED_PREFIX_K == 1,
               "prefix keys, prefix values and cu_prefix follow each other");

status_t attention_check(const char *op, int64_t heads, int64_t kv_heads, int64_t head_dim, const view_t *in) {
    const view_t *q = &in[ATTENTION_Q], *k = &in[ATTENTION_K], *cu = &in[ATTENTION_CU];
    TRY(check_positive(op, "heads", heads));
    TRY(check_positive(op, "kv_heads", kv_heads));
    TRY(check_positive(op, "head_dim", head_dim));
    if (heads % kv_heads != 0)
        return st_raise(ST_INTERNAL, op, "%lld heads cannot share %lld key heads; make it a multiple", (long long)heads,
                        (long long)kv_heads);
    TRY(check_real(op, "q", q, 2, q->dtype));
    TRY(check_real(op, "k", k, 2, q->dtype));
    TRY(check_dim(op, "q", q, 1, heads * head_dim));
    TRY(check_dim(op, "k", k, 0, q->dim[0]));
    TRY(check_dim(op, "k", k, 1, kv_heads * head_dim));
    TRY(check_same(op, "v", &in[ATTENTION_V], k));
    TRY(check_tensor(op, "cu_seqlens", cu, 1, DT_I32));
    return check_positive(op, "the length of cu_seqlens", cu->dim[0]);
}

status_t attention_check_prefix(const char *op, const view_t *in, const view_t *prefix) {
    int absent = 0;
    for (int i = 0; i < 3; i++) absent += view_absent(&prefix[i]);
    if (absent == 3) return ST_OK;
    if (absent != 0)
        return st_raise(ST_INTERNAL, op, "%d of prefix keys, prefix values and cu_prefix are absent; pass all or none",
                        absent);
    TRY(check_weight(op, "prefix_k", &prefix[0], 2, in[ATTENTION_Q].dtype));
    TRY(check_dim(op, "prefix_k", &prefix[0], 1, in[ATTENTION_K].dim[1]));
    TRY(check_same(op, "prefix_v", &prefix[1], &prefix[0]));
    return check_same(op, "cu_prefix", &prefix[2], &in[ATTENTION_CU]);
}
