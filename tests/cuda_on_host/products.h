/* Matrix products of kernels/cuda/gemm.h in C's words, for test_products.c. *local* */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include "kernels/device.h"
#include "kernels/view.h"

typedef struct product_case {
    int m, n, k;
    bool ta, tb, acc, bias;
    dtype_t in, out, bias_type;
    int offset; /* elements by which all matrices miss their alignment */
} product_case_t;

#ifdef __cplusplus
extern "C" {
#endif
status_t products_open(device_t *d);
void products_close(device_t *d);
/* What products_run makes of numbers a(i), b(i), c(i) and bias(i) (product_number of another seed each), alpha 0.5;
 * `c` [m, n]. */
void products_run(device_t *d, const product_case_t *p, double *c);
double product_number(int seed, int i); /* exact in bfloat16 */
status_t products_check(const device_t *d);
size_t products_describe(const device_t *d, char *text, size_t size);
bool products_adopt(device_t *d, const char *text);
#ifdef __cplusplus
}
#endif
