/* Attention of new tokens over a key/value cache, for generation; forward only. The new rows of sequence s (rows
 * cu[s]..cu[s+1]) are first written to slot s of the caches at places past[s], past[s]+1, ...; then each attends to
 * all earlier places of its slot and itself.
 * in: q [N,H*hd], k [N,Hkv*hd], v [N,Hkv*hd], cu_seqlens [S+1] i32, past [S] i32, cache [2, slots*places, Hkv*hd]
 *     (keys, then values; slot s owns rows s*places ...; written in place, S <= slots)
 * out: o [N,H*hd]. */
#pragma once
#include <stdint.h>
enum {
    ATTENTION_CACHED_Q,
    ATTENTION_CACHED_K,
    ATTENTION_CACHED_V,
    ATTENTION_CACHED_CU,
    ATTENTION_CACHED_PAST,
    ATTENTION_CACHED_CACHE
};
typedef struct attention_cached_attr {
    int64_t heads, kv_heads, head_dim;
    int64_t places; /* cache rows per slot */
    double scale;
} attention_cached_attr_t;
