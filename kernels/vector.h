/* What a step does with flat float vectors besides the tape: summing gradients, clipping, updating. One table a
 * backend; vectors are in the memory of `d` (NULL: the host). Sums have a fixed order. Nothing waits. *local* */
#pragma once
#include <stdint.h>
#include "kernels/device.h"

typedef struct vector_calls {
    void (*add)(device_t *d, float *y, const float *x, int64_t n); /* y += x */
} vector_calls_t;
