/* y = f(x), elementwise: tanh (prefix tuning's projection, Li & Liang 2021) or max(x, 0) (P-tuning's MLP). Backward
 * from y alone: dx = dy (1 - y^2), dx = dy [y > 0]. in: x [N,d]; out: y [N,d] */
#pragma once
enum { ACTIVATION_X };
typedef enum activation_kind { ACTIVATION_TANH, ACTIVATION_RELU } activation_kind_t;
typedef struct activation_attr {
    activation_kind_t kind;
} activation_attr_t;
