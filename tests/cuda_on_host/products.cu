#include "tests/cuda_on_host/products.h"
#include <stdlib.h>
#include "kernels/cuda/gemm.h"

double product_number(int seed, int i) {
    return (double)((i * 37 + seed * 101) % 61 - 30) / 16;
}

/* `count` numbers of `type`, `offset` elements behind an aligned address; *block is to be freed. */
static void *numbers(int seed, dtype_t type, int count, int offset, void **block) {
    *block = aligned_alloc(64, ((size_t)(count + offset + 16) * 4 + 63) / 64 * 64);
    if (!*block) abort();
    for (int i = 0; i < count; i++)
        if (type == DT_BF16)
            ((bf16_t *)*block)[i + offset] = __float2bfloat16_rn((float)product_number(seed, i));
        else
            ((float *)*block)[i + offset] = (float)product_number(seed, i);
    return (char *)*block + (size_t)offset * dtype_size(type);
}

status_t products_open(device_t *d) {
    return gemm_open(d);
}
void products_close(device_t *d) {
    gemm_close(d);
}
status_t products_check(const device_t *d) {
    return gemm_check(d, "products");
}
size_t products_describe(const device_t *d, char *text, size_t size) {
    return gemm_describe(d, text, size);
}
bool products_adopt(device_t *d, const char *text) {
    return gemm_adopt(d, text);
}

void products_run(device_t *d, const product_case_t *p, double *c) {
    void *block[4];
    gemm_t g;
    g.m = p->m;
    g.n = p->n;
    g.k = p->k;
    g.ta = p->ta;
    g.tb = p->tb;
    g.a = numbers(1, p->in, p->m * p->k, p->offset, &block[0]);
    g.b = numbers(2, p->in, p->k * p->n, p->offset, &block[1]);
    g.c = numbers(3, p->out, p->m * p->n, p->offset, &block[2]);
    const void *bias = numbers(4, p->bias_type, p->n, p->offset, &block[3]);
    g.bias = p->bias ? bias : nullptr;
    g.a_type = g.b_type = p->in;
    g.c_type = p->out;
    g.bias_type = p->bias_type;
    g.alpha = 0.5f;
    g.acc = p->acc;
    gemm_run(d, &g);
    for (int i = 0; i < p->m * p->n; i++)
        c[i] = p->out == DT_BF16 ? (double)__bfloat162float(((bf16_t *)g.c)[i]) : (double)((float *)g.c)[i];
    for (void *b : block) free(b);
}
