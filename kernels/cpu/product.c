#include "kernels/cpu/product.h"
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/vecmath.h"

enum { TILE_COLUMNS = 512, LEAST_COLUMNS = 96, SUM_COLUMNS = 64, FEW_ROWS = 4, FEW_COLUMNS = 16 };

/* Of products with packed panels: fewer rows leave turning B to the library; a panel of PART_INNER fits in a core's own
 * cache; a job has at most JOB_ROWS rows and, where columns are cut unevenly for the threads, at least LEAST_ROWS. */
enum { PANEL_ROWS = 96, PART_INNER = 1536, JOB_ROWS = 1024, LEAST_ROWS = 64 };

static void tile_product(const cpu_product_t *p, int64_t i, int64_t j, int64_t height, int64_t width) {
    float *c = p->c + i * p->ldc + j;
    const float *a = p->ta == 'T' ? p->a + i : p->a + i * p->lda, *b = p->tb == 'T' ? p->b + j * p->ldb : p->b + j;
    cpu_gemm(p->ta, p->tb, height, width, p->inner, 1.0f, a, p->lda, b, p->ldb, p->acc ? 1.0f : 0.0f, c, p->ldc);
    if (!p->bias) return;
    for (int64_t n = 0; n < height; n++)
        for (int64_t l = 0; l < width; l++) c[n * p->ldc + l] += p->bias[j + l];
}

/* Two rows times one: sums that do not wait for each other, each in vec_dot's order. */
static inline void dot_pair(const float *a0, const float *a1, const float *b, int64_t n, float sum[2]) {
    float s0 = 0, s1 = 0;
#pragma omp simd reduction(+ : s0, s1)
    for (int64_t l = 0; l < n; l++) {
        s0 += a0[l] * b[l];
        s1 += a1[l] * b[l];
    }
    sum[0] = s0;
    sum[1] = s1;
}

/* Columns [j, j + width) of a few rows against a matrix that lies by columns, as when a model generates: bounded by the
 * bytes of B, so that packing it first, as a library's product does, would cost more than the product. B is read as it
 * lies: several of its columns at a time, or prefetching, were slower. */
GRAFT_CLONES static void product_few(const cpu_product_t *p, int64_t j, int64_t width) {
    for (int64_t l = j; l < j + width; l++) {
        const float *b = p->b + l * p->ldb;
        float sum[FEW_ROWS];
        int64_t i = 0;
        for (; i + 2 <= p->rows; i += 2) dot_pair(p->a + i * p->lda, p->a + (i + 1) * p->lda, b, p->inner, sum + i);
        if (i < p->rows) sum[i] = vec_dot(p->a + i * p->lda, b, p->inner);
        for (i = 0; i < p->rows; i++) {
            float *c = p->c + i * p->ldc + l;
            *c = p->acc ? *c + sum[i] : p->bias ? sum[i] + p->bias[l] : sum[i];
        }
    }
}

int64_t cpu_product_part(int64_t inner) {
    return gemm_panels(1, cpu_min(inner, PART_INNER));
}

size_t cpu_product_scratch(int64_t inner) {
    return CPU_LINE + cpu_scratch_bytes(0, cpu_product_part(inner));
}

/* Columns [j, j + GEMM_COLS). */
static void panel_product(const cpu_product_t *p, int64_t j) {
    const gemm_set_t *set = gemm_set();
    int64_t part = cpu_tile(p->inner, PART_INNER);
    gemm_block_t g = {.b = p->scratch,
                      .rows = p->rows,
                      .cols = cpu_min(GEMM_COLS, p->cols - j),
                      .lda = p->lda,
                      .c = p->c + j,
                      .ldc = p->ldc};
    if (p->acc)
        g.from = g.c, g.from_step = p->ldc;
    else if (p->bias)
        g.from = p->bias + j;
    for (int64_t l = 0; l == 0 || l < p->inner; l += part) {
        g.k = cpu_min(part, p->inner - l);
        g.a = p->a + l;
        gemm_pack(set, p->b + j * p->ldb + l, p->ldb, g.cols, g.k, p->scratch);
        gemm_block(set, &g);
        g.from = g.c, g.from_step = p->ldc;
    }
}

void cpu_product_alone(const cpu_product_t *p) {
    if (p->rows < PANEL_ROWS)
        tile_product(p, 0, 0, p->rows, p->cols);
    else
        for (int64_t j = 0; j < p->cols; j += GEMM_COLS) panel_product(p, j);
}

/* A thread packs the panels of its columns alone, so nobody waits. The columns of a thread lie together: threads that
 * write neighbouring columns of a row at one time get in each other's way. How C is cut changes no bit (gemm.h), so it
 * may depend on the number of threads. */
static void product_panels(const cpu_product_t *p) {
    int64_t across = cpu_parts(p->cols, GEMM_COLS), down = cpu_parts(p->rows, JOB_ROWS);
    int threads = omp_get_max_threads();
    while (down * across % threads && down * across < 4 * threads && p->rows / (2 * down) >= LEAST_ROWS) down *= 2;
    int64_t height = (cpu_parts(p->rows, down) + GEMM_ROWS - 1) / GEMM_ROWS * GEMM_ROWS;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < down * across; t++) {
        cpu_product_t job = *p;
        int64_t i = t % down * height;
        job.a += i * p->lda;
        job.c += i * p->ldc;
        job.rows = cpu_min(height, p->rows - i);
        job.scratch = cpu_line(p->scratch) + omp_get_thread_num() * cpu_product_part(p->inner);
        if (job.rows > 0) panel_product(&job, t / down * GEMM_COLS);
    }
}

/* Tiles of one row follow each other so that a thread finds its rows of A in cache. Their number is even, for two
 * threads. */
static void product_tiles(const cpu_product_t *p, int64_t tile_rows) {
    int64_t height = cpu_tile(p->rows, tile_rows), width = cpu_tile(p->cols, TILE_COLUMNS);
    int64_t down = cpu_parts(p->rows, height), across = cpu_parts(p->cols, width);
    if (down * across % 2 && p->cols > LEAST_COLUMNS) {
        width = cpu_tile(p->cols, p->cols / (across + 1) / 8 * 8 + 8);
        across = cpu_parts(p->cols, width);
    }
#pragma omp parallel for schedule(dynamic)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t i = t / across * height, j = t % across * width;
        tile_product(p, i, j, cpu_min(height, p->rows - i), cpu_min(width, p->cols - j));
    }
}

void cpu_product(const cpu_product_t *p, int64_t tile_rows) {
    assert(!(p->acc && p->bias));
    if (p->rows <= FEW_ROWS && p->ta == 'N' && p->tb == 'T') {
#pragma omp parallel for schedule(static)
        for (int64_t j = 0; j < p->cols; j += FEW_COLUMNS) product_few(p, j, cpu_min(FEW_COLUMNS, p->cols - j));
    } else if (p->rows >= PANEL_ROWS && p->ta == 'N' && p->tb == 'T') {
        product_panels(p);
    } else {
        product_tiles(p, tile_rows);
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
