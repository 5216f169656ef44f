/* Linear layers of several experts, one for every sequence (DEMix, Gururangan et al. 2021, section 2.2): rows n of
 * sequence s, cu_seqlens[s] <= n < cu_seqlens[s+1], go through block e = expert[s]:
 * y[n,:] = x[n,:] W_e^T + b_e with W_e = W[e m : (e+1) m, :], b_e = b[e m : (e+1) m].
 * Backward: dx[n,:] = dy[n,:] W_e, dW_e = sum of dy[n,:]^T x[n,:] and db_e = sum of dy[n,:] over the rows of the
 * sequences of expert e, in the order of sequences; blocks that no sequence takes get 0. Expert numbers of sequences
 * without rows are not read; all others lie in [0, E).
 * in: x [N,k], W [E m, k], b [E m] optional, cu_seqlens [S+1] i32 (from 0 to N), expert [S] i32; out: y [N,m].
 * CPU: neighbouring sequences of one expert are one product, tiled as linear's, so with one expert the two give the
 * same bits. */
#pragma once
#include <stdint.h>
enum { ROUTED_LINEAR_X, ROUTED_LINEAR_W, ROUTED_LINEAR_B, ROUTED_LINEAR_CU, ROUTED_LINEAR_EXPERT };
typedef struct routed_linear_attr {
    int64_t experts; /* E */
} routed_linear_attr_t;
