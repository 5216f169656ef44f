/* SwiGLU's product (Shazeer 2020): y = silu(g) * u, silu(g) = g * sigma(g).
 * Backward: dg = dy * u * sigma(g) * (1 + g * (1 - sigma(g))), du = dy * silu(g).   in: g, u [N,f]; out: y [N,f] */
#pragma once
enum { SILU_MUL_G, SILU_MUL_U };
