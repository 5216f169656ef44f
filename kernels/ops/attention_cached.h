/* Attention of new tokens over a key/value cache, for generation; forward only. The prefix rows of sequence s, if any,
 * are written to slot s of the caches at places past[s], past[s]+1, ..., its new rows (rows cu[s]..cu[s+1]) behind
 * them; then each new row attends to all earlier places of its slot and itself. A prefix is given in the first pass of
 * a sequence alone.
 * in: q [N,H*hd], k [N,Hkv*hd], v [N,Hkv*hd], cu_seqlens [S+1] i32, past [S] i32, cache [2, slots*places, Hkv*hd]
 *     (keys, then values; slot s owns rows s*places ...; written in place, S <= slots), and optional, all three or
 *     none: prefix keys [P,Hkv*hd], prefix values [P,Hkv*hd], cu_prefix [S+1] i32
 * out: o [N,H*hd]. */
#pragma once
#include <stdint.h>
enum {
    ATTENTION_CACHED_Q,
    ATTENTION_CACHED_K,
    ATTENTION_CACHED_V,
    ATTENTION_CACHED_CU,
    ATTENTION_CACHED_PAST,
    ATTENTION_CACHED_CACHE,
    ATTENTION_CACHED_PREFIX_K,
    ATTENTION_CACHED_PREFIX_V,
    ATTENTION_CACHED_CU_PREFIX
};
typedef struct attention_cached_attr {
    int64_t heads, kv_heads, head_dim;
    int64_t places; /* cache rows per slot */
    double scale;
} attention_cached_attr_t;
