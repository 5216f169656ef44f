/* Causal attention inside each packed sequence, over its prefix rows and itself. For head h with key head h/(H/Hkv),
 * query row i sees all prefix rows of its sequence and key rows j <= i: p = softmax_j(scale * q_i k_j), o_i = sum_j
 * p_j v_j, where the keys are [prefix keys; k] and the values [prefix values; v] (Li & Liang 2021: prefix rows have no
 * queries; their keys are taken as they are, never rotated).
 * Backward: dv_j = sum_i p_ij do_i, ds_ij = p_ij (do_i v_j - do_i o_i), dq_i = scale sum_j ds_ij k_j, dk_j = scale
 * sum_i ds_ij q_i, dk and dv summed over the query heads of a group; prefix rows alike. p is recomputed from lse (Dao
 * et al. 2022).
 * in: q [N,H*hd], k [N,Hkv*hd], v [N,Hkv*hd], cu_seqlens [S+1] i32 (cu[0] = 0, cu[S] = N, empty sequences legal),
 *     and optional, all three or none: prefix keys [P,Hkv*hd], prefix values [P,Hkv*hd], cu_prefix [S+1] i32 (sequence
 *     s owns prefix rows cu_prefix[s] .. cu_prefix[s+1], none is legal)
 * out: o [N,H*hd], lse [N,H] (log-sum-exp of the scaled scores). */
#pragma once
#include <stdint.h>
enum {
    ATTENTION_Q,
    ATTENTION_K,
    ATTENTION_V,
    ATTENTION_CU,
    ATTENTION_PREFIX_K,
    ATTENTION_PREFIX_V,
    ATTENTION_CU_PREFIX
};
enum { ATTENTION_O, ATTENTION_LSE };
typedef struct attention_attr {
    int64_t heads, kv_heads, head_dim;
    double scale;
} attention_attr_t;
