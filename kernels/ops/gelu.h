/* GELU, tanh form (gelu_new): y = 0.5 x (1 + tanh(c (x + 0.044715 x^3))), c = sqrt(2/pi).
 * Backward with t = tanh(...): dx = dy * (0.5 (1 + t) + 0.5 x (1 - t^2) c (1 + 3*0.044715 x^2)).   in: x [N,f]; out: y
 */
#pragma once
enum { GELU_X };
