#include "kernels/ops/linear.h"
#include "kernels/cpu/cpu.h"

enum { ROWS = 128, COLUMNS = 512, WEIGHT_ROWS = 64, BIAS_COLUMNS = 64 };

/* C[rows,cols] = op(A) op(B) (+ C), cut in tiles; every tile is one GEMM over the whole inner length. Tiles of one row
 * follow each other so that a thread finds its rows of A in cache. */
typedef struct product {
    char ta, tb;
    const float *a, *b;
    float *c;
    const float *bias; /* added to every row, or NULL */
    int64_t rows, cols, inner, lda, ldb, ldc;
    bool acc;
} product_t;

static void tile_product(const product_t *p, int64_t i, int64_t j, int64_t height, int64_t width) {
    float *c = p->c + i * p->ldc + j;
    const float *a = p->ta == 'T' ? p->a + i : p->a + i * p->lda, *b = p->tb == 'T' ? p->b + j * p->ldb : p->b + j;
    cpu_gemm(p->ta, p->tb, height, width, p->inner, 1.0f, a, p->lda, b, p->ldb, p->acc ? 1.0f : 0.0f, c, p->ldc);
    if (!p->bias) return;
    for (int64_t n = 0; n < height; n++)
        for (int64_t l = 0; l < width; l++) c[n * p->ldc + l] += p->bias[j + l];
}

static void tiled_product(const product_t *p, int64_t tile_rows) {
    int64_t height = cpu_tile(p->rows, tile_rows), width = cpu_tile(p->cols, COLUMNS);
    int64_t down = cpu_parts(p->rows, height), across = cpu_parts(p->cols, width);
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t i = t / across * height, j = t % across * width;
        tile_product(p, i, j, cpu_min(height, p->rows - i), cpu_min(width, p->cols - j));
    }
}

void cpu_linear_fwd(const op_io_t *io) {
    int64_t rows = io->in[LINEAR_X].dim[0], k = io->in[LINEAR_X].dim[1], m = io->in[LINEAR_W].dim[0];
    const product_t y = {.ta = 'N',
                         .tb = 'T',
                         .a = io->in[LINEAR_X].data,
                         .lda = k,
                         .b = io->in[LINEAR_W].data,
                         .ldb = k,
                         .c = io->out[0].data,
                         .ldc = m,
                         .bias = io->in[LINEAR_B].data,
                         .rows = rows,
                         .cols = m,
                         .inner = k};
    tiled_product(&y, ROWS);
}

static void bias_gradient(const op_io_t *io) {
    const float *dy = io->gout.data;
    float *db = io->gin[LINEAR_B].data;
    int64_t rows = io->gout.dim[0], m = io->gout.dim[1];
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < cpu_parts(m, BIAS_COLUMNS); t++) {
        double sum[BIAS_COLUMNS] = {0};
        int64_t first = t * BIAS_COLUMNS, count = cpu_min(BIAS_COLUMNS, m - first);
        for (int64_t n = 0; n < rows; n++)
            for (int64_t i = 0; i < count; i++) sum[i] += (double)dy[n * m + first + i];
        for (int64_t i = 0; i < count; i++)
            db[first + i] = (float)(io->acc[LINEAR_B] ? (double)db[first + i] + sum[i] : sum[i]);
    }
}

void cpu_linear_bwd(const op_io_t *io) {
    int64_t rows = io->gout.dim[0], m = io->gout.dim[1], k = io->in[LINEAR_W].dim[1];
    product_t p = {.ta = 'N',
                   .tb = 'N',
                   .a = io->gout.data,
                   .lda = m,
                   .b = io->in[LINEAR_W].data,
                   .ldb = k,
                   .c = io->gin[LINEAR_X].data,
                   .ldc = k,
                   .rows = rows,
                   .cols = k,
                   .inner = m,
                   .acc = io->acc[LINEAR_X]};
    if (p.c) tiled_product(&p, ROWS);
    p = (product_t){.ta = 'T',
                    .tb = 'N',
                    .a = io->gout.data,
                    .lda = m,
                    .b = io->in[LINEAR_X].data,
                    .ldb = k,
                    .c = io->gin[LINEAR_W].data,
                    .ldc = k,
                    .rows = m,
                    .cols = k,
                    .inner = rows,
                    .acc = io->acc[LINEAR_W]};
    if (p.c) tiled_product(&p, WEIGHT_ROWS);
    if (io->gin[LINEAR_B].data) bias_gradient(io);
}
