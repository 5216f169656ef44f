#include "kernels/cpu/cpu.h"
#include <dnnl.h>

/* Reached only when oneDNN cannot get memory: slow and right beats an error that a kernel has no way to report. */
static void plain_gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
                       const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    for (int64_t i = 0; i < m; i++)
        for (int64_t j = 0; j < n; j++) {
            float sum = 0;
            for (int64_t l = 0; l < k; l++)
                sum += (ta == 'T' ? a[l * lda + i] : a[i * lda + l]) * (tb == 'T' ? b[j * ldb + l] : b[l * ldb + j]);
            c[i * ldc + j] = beta == 0 ? alpha * sum : alpha * sum + beta * c[i * ldc + j];
        }
}

void cpu_gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
              const float *b, int64_t ldb, float beta, float *c, int64_t ldc) {
    if (m <= 0 || n <= 0) return;
    if (k <= 0 || dnnl_sgemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc) != dnnl_success)
        plain_gemm(ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
}
