/* y = x W^T + b (W as torch stores it).  Backward: dx = dy W, dW = dy^T x, db = sum_n dy.
 * in: x [N,k], W [m,k], b [m] optional; out: y [N,m].
 * CPU: tiles of at most 128 rows of y or dx (64 of dW) and 512 columns; each is one single-threaded GEMM. */
#pragma once
enum { LINEAR_X, LINEAR_W, LINEAR_B };
