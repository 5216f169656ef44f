#include "tests/bench/bench_products.h"
#include <stdio.h>
#include <stdlib.h>
#include "kernels/cpu/product.h"

enum { REPEATS = 60 };

/* C[m,n] over k. */
static const struct {
    int64_t m, n, k;
    char ta, tb;
} shapes[] = {
    {1024, 576, 576, 'N', 'T'},  {1024, 1536, 576, 'N', 'T'}, {1024, 576, 1536, 'N', 'T'}, {1024, 192, 576, 'N', 'T'},
    {320, 576, 576, 'N', 'T'},   {320, 1536, 576, 'N', 'T'},  {320, 576, 1536, 'N', 'T'},  {320, 192, 576, 'N', 'T'},
    {64, 576, 576, 'N', 'T'},    {32, 576, 576, 'N', 'T'},    {1020, 4096, 576, 'N', 'T'}, {1024, 4096, 4096, 'N', 'T'},
    {1024, 576, 1536, 'N', 'N'}, {320, 1536, 576, 'N', 'N'},  {320, 576, 192, 'N', 'N'},   {576, 1536, 1024, 'T', 'N'},
};

/* One call of the library a tile, of at most 128 rows and 512 columns. */
static void by_library(const cpu_product_t *p) {
    int64_t height = cpu_tile(p->rows, p->ta == 'T' ? 64 : 128), width = cpu_tile(p->cols, 512);
    int64_t down = cpu_parts(p->rows, height), across = cpu_parts(p->cols, width);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t i = t / across * height, j = t % across * width;
        const float *a = p->ta == 'T' ? p->a + i : p->a + i * p->lda, *b = p->tb == 'T' ? p->b + j * p->ldb : p->b + j;
        cpu_gemm(p->ta, p->tb, cpu_min(height, p->rows - i), cpu_min(width, p->cols - j), p->inner, 1.0f, a, p->lda, b,
                 p->ldb, 0.0f, p->c + i * p->ldc + j, p->ldc);
    }
}

/* Memory as the tape's: at the beginning of a line. */
static float *numbers(int64_t count) {
    float *x = aligned_alloc(CPU_LINE, (size_t)(cpu_parts(count, 16) * CPU_LINE));
    if (!x) exit(1);
    for (int64_t i = 0; i < count; i++) x[i] = (float)(i % 13) / 8 - 0.75f;
    return x;
}

void bench_products(void) {
    for (size_t n = 0; n < sizeof shapes / sizeof *shapes; n++) {
        int64_t rows = shapes[n].m, cols = shapes[n].n, inner = shapes[n].k;
        float *a = numbers(rows * inner), *b = numbers(cols * inner), *c = numbers(rows * cols);
        void *scratch = malloc(cpu_product_scratch(inner));
        if (!scratch) exit(1);
        const cpu_product_t p = {.ta = shapes[n].ta,
                                 .tb = shapes[n].tb,
                                 .a = a,
                                 .b = b,
                                 .c = c,
                                 .rows = rows,
                                 .cols = cols,
                                 .inner = inner,
                                 .lda = shapes[n].ta == 'T' ? rows : inner,
                                 .ldb = shapes[n].tb == 'T' ? inner : cols,
                                 .ldc = cols,
                                 .scratch = scratch};
        double best[2] = {1e9, 1e9}, flops = 2.0 * (double)rows * (double)cols * (double)inner;
        for (int i = 0; i < 2 * REPEATS; i++) {
            double began = omp_get_wtime();
            if (i % 2)
                cpu_product(&p, p.ta == 'T' ? 64 : 128);
            else
                by_library(&p);
            double t = omp_get_wtime() - began;
            if (t < best[i % 2]) best[i % 2] = t;
        }
        printf("product %5lld x %5lld over %5lld %c%c: library %8.1f GF/s, ours %8.1f GF/s, ratio %.3f\n",
               (long long)rows, (long long)cols, (long long)inner, p.ta, p.tb, flops / best[0] / 1e9,
               flops / best[1] / 1e9, best[0] / best[1]);
        free(a), free(b), free(c), free(scratch);
    }
}
