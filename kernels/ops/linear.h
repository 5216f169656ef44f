/* y = x W^T + b (W as torch stores it).  Backward: dx = dy W, dW = dy^T x, db = sum_n dy.
 * in: x [N,k], W [m,k], b [m] optional; out: y [N,m].
 * CPU: y in panels of 48 columns of kernels/cpu/gemm.h; dx, dW, and y of fewer than 96 rows, in tiles of at most 128
 * rows (64 of dW) and 512 columns, each one single-threaded GEMM of the library. */
#pragma once
enum { LINEAR_X, LINEAR_W, LINEAR_B };
