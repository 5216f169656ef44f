#include "kernels/cpu/product.h"
#include "kernels/cpu/vecmath.h"

enum { TILE_COLUMNS = 512, SUM_COLUMNS = 64, FEW_ROWS = 4, FEW_COLUMNS = 64 };

static void tile_product(const cpu_product_t *p, int64_t i, int64_t j, int64_t height, int64_t width) {
    float *c = p->c + i * p->ldc + j;
    const float *a = p->ta == 'T' ? p->a + i : p->a + i * p->lda, *b = p->tb == 'T' ? p->b + j * p->ldb : p->b + j;
    cpu_gemm(p->ta, p->tb, height, width, p->inner, 1.0f, a, p->lda, b, p->ldb, p->acc ? 1.0f : 0.0f, c, p->ldc);
    if (!p->bias) return;
    for (int64_t n = 0; n < height; n++)
        for (int64_t l = 0; l < width; l++) c[n * p->ldc + l] += p->bias[j + l];
}

/* Columns [j, j + width) of a few rows against a matrix that lies by columns, as when a model generates: bounded by the
 * bytes of B, so that packing it first, as a library's product does, would cost more than the product. */
GRAFT_CLONES static void product_few(const cpu_product_t *p, int64_t j, int64_t width) {
    for (int64_t l = j; l < j + width; l++)
        for (int64_t i = 0; i < p->rows; i++) {
            float sum = vec_dot(p->a + i * p->lda, p->b + l * p->ldb, p->inner), *c = p->c + i * p->ldc + l;
            if (p->bias) sum += p->bias[l];
            *c = p->acc ? *c + sum : sum;
        }
}

/* Tiles of one row follow each other so that a thread finds its rows of A in cache. */
void cpu_product(const cpu_product_t *p, int64_t tile_rows) {
    if (p->rows <= FEW_ROWS && p->ta == 'N' && p->tb == 'T') {
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < p->cols; j += FEW_COLUMNS) product_few(p, j, cpu_min(FEW_COLUMNS, p->cols - j));
        return;
    }
    int64_t height = cpu_tile(p->rows, tile_rows), width = cpu_tile(p->cols, TILE_COLUMNS);
    int64_t down = cpu_parts(p->rows, height), across = cpu_parts(p->cols, width);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t i = t / across * height, j = t % across * width;
        tile_product(p, i, j, cpu_min(height, p->rows - i), cpu_min(width, p->cols - j));
    }
}

void cpu_column_sums(const float *x, int64_t rows, int64_t cols, bool acc, float *sums) {
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(cols, SUM_COLUMNS); t++) {
        double sum[SUM_COLUMNS] = {0};
        int64_t first = t * SUM_COLUMNS, count = cpu_min(SUM_COLUMNS, cols - first);
        for (int64_t n = 0; n < rows; n++)
            for (int64_t i = 0; i < count; i++) sum[i] += (double)x[n * cols + first + i];
        for (int64_t i = 0; i < count; i++) sums[first + i] = (float)(acc ? (double)sums[first + i] + sum[i] : sum[i]);
    }
}
