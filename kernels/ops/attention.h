/* Causal attention inside each packed sequence. For head h with key head h/(H/Hkv), query row i and key rows j <= i of
 * the same sequence: p = softmax_j(scale * q_i k_j), o_i = sum_j p_j v_j.
 * Backward: dv_j = sum_i p_ij do_i, ds_ij = p_ij (do_i v_j - do_i o_i), dq_i = scale sum_j ds_ij k_j, dk_j = scale
 * sum_i ds_ij q_i, dk and dv summed over the query heads of a group. p is recomputed from lse (Dao et al. 2022). in: q
 * [N,H*hd], k [N,Hkv*hd], v [N,Hkv*hd], cu_seqlens [S+1] i32 (cu[0] = 0, cu[S] = N, empty sequences legal) out: o
 * [N,H*hd], lse [N,H] (log-sum-exp of the scaled scores). */
#pragma once
#include <stdint.h>
enum { ATTENTION_Q, ATTENTION_K, ATTENTION_V, ATTENTION_CU };
enum { ATTENTION_O, ATTENTION_LSE };
typedef struct attention_attr {
    int64_t heads, kv_heads, head_dim;
    double scale;
} attention_attr_t;
