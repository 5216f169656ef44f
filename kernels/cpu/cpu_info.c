#include <dnnl.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cpu/cpu_info.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/product.h"

static const struct {
    dnnl_cpu_isa_t isa;
    const char *name;
} sets[] = {
    {dnnl_cpu_isa_sse41, "sse4.1"},
    {dnnl_cpu_isa_avx, "avx"},
    {dnnl_cpu_isa_avx2, "avx2"},
    {dnnl_cpu_isa_avx2_vnni, "avx2 with vnni"},
    {dnnl_cpu_isa_avx512_core, "avx512"},
    {dnnl_cpu_isa_avx512_core_vnni, "avx512 with vnni"},
    {dnnl_cpu_isa_avx512_core_bf16, "avx512 with bf16"},
};

void cpu_info_library(char *text, size_t size) {
    const dnnl_version_t *v = dnnl_version();
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    const char *name = "another instruction set";
    for (size_t i = 0; i < sizeof sets / sizeof *sets; i++)
        if (sets[i].isa == isa) name = sets[i].name;
    snprintf(text, size, "oneDNN %d.%d.%d, %s", v->major, v->minor, v->patch, name);
}

#if defined(__x86_64__)
void cpu_info_features(char *text, size_t size) {
    snprintf(text, size, "%s%s%s", __builtin_cpu_supports("avx2") ? "avx2" : "",
             __builtin_cpu_supports("fma") ? " fma" : "", __builtin_cpu_supports("avx512f") ? " avx512f" : "");
    if (!text[0]) snprintf(text, size, "none beyond the compiler's own");
}

bool cpu_info_library_lags(void) {
    dnnl_cpu_isa_t isa = dnnl_get_effective_cpu_isa();
    return __builtin_cpu_supports("avx2") && (isa == dnnl_cpu_isa_sse41 || isa == dnnl_cpu_isa_avx);
}
#else
void cpu_info_features(char *text, size_t size) {
    snprintf(text, size, "%s", gemm_set()->name);
}

bool cpu_info_library_lags(void) {
    return false;
}
#endif

double cpu_info_rate(int threads) {
    enum { N = 1024, REPEATS = 4 };
    int before = omp_get_max_threads();
    float *a = calloc((size_t)N * N, sizeof *a), *b = calloc((size_t)N * N, sizeof *b);
    float *c = calloc((size_t)N * N, sizeof *c);
    omp_set_num_threads(threads);
    void *scratch = malloc(cpu_product_scratch(N));
    double best = 0;
    if (a && b && c && scratch) {
        for (int64_t i = 0; i < (int64_t)N * N; i++) a[i] = b[i] = (float)(i % 7) - 3;
        const cpu_product_t p = {.ta = 'N',
                                 .tb = 'T',
                                 .a = a,
                                 .b = b,
                                 .c = c,
                                 .rows = N,
                                 .cols = N,
                                 .inner = N,
                                 .lda = N,
                                 .ldb = N,
                                 .ldc = N,
                                 .scratch = scratch};
        for (int i = 0; i < REPEATS; i++) {
            double began = omp_get_wtime();
            cpu_product(&p, 128);
            double rate = 2.0 * N * N * N / (omp_get_wtime() - began) * 1e-9;
            if (rate > best) best = rate;
        }
    }
    omp_set_num_threads(before);
    free(scratch);
    free(a);
    free(b);
    free(c);
    return best;
}
