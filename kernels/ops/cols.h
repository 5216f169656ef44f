/* y = x[:, first : first+count] (splits GPT-2's fused q|k|v). Backward: those columns of dx get dy, the others 0.
 * in: x [N,k]; out: y [N,count] */
#pragma once
#include <stdint.h>
enum { COLS_X };
typedef struct cols_attr {
    int64_t first, count;
} cols_attr_t;
