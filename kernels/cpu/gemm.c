#include "kernels/cpu/gemm.h"

static void pack_panel(const gemm_set_t *set, const float *b, int64_t ldb, int64_t cols, int64_t k, float *panel) {
    int64_t turned = cols / 8 * 8, turned_k = k / 8 * 8;
    set->turn(b, ldb, turned, turned_k, panel);
    for (int64_t l = turned == GEMM_COLS ? turned_k : 0; l < k; l++)
        for (int64_t j = l < turned_k ? turned : 0; j < GEMM_COLS; j++)
            panel[l * GEMM_COLS + j] = j < cols ? b[j * ldb + l] : 0;
}

void gemm_pack(const gemm_set_t *set, const float *b, int64_t ldb, int64_t cols, int64_t k, float *panels) {
    for (int64_t j = 0; j < cols; j += GEMM_COLS)
        pack_panel(set, b + j * ldb, ldb, cpu_min(GEMM_COLS, cols - j), k, panels + j * k);
}

/* A tile whose columns are not all in C. */
static void edge(const gemm_set_t *set, const gemm_block_t *t, int64_t cols) {
    float sum[GEMM_ROWS * GEMM_COLS];
    gemm_block_t whole = *t;
    whole.c = sum, whole.ldc = GEMM_COLS, whole.from = NULL;
    set->tile(&whole);
    for (int64_t i = 0; i < t->rows; i++)
        for (int64_t j = 0; j < cols; j++) {
            float s = sum[i * GEMM_COLS + j];
            t->c[i * t->ldc + j] = t->from ? s + t->from[i * t->from_step + j] : s;
        }
}

/* A panel of B stays in cache while the rows of A pass by. */
void gemm_block(const gemm_set_t *set, const gemm_block_t *g) {
    for (int64_t j = 0; j < g->cols; j += GEMM_COLS)
        for (int64_t i = 0; i < g->rows; i += GEMM_ROWS) {
            gemm_block_t t = *g;
            t.a += i * g->lda;
            t.b += j * g->k;
            t.c += i * g->ldc + j;
            if (g->from) t.from += i * g->from_step + j;
            t.rows = cpu_min(GEMM_ROWS, g->rows - i);
            t.cols = GEMM_COLS;
            if (j + GEMM_COLS > g->cols)
                edge(set, &t, g->cols - j);
            else
                set->tile(&t);
        }
}
