/* The tiles of one instruction set; gemm_sets.c includes this once for each, with TILE (the name), TARGET (an
 * attribute), and ROWS rows by VECTORS vectors of BYTES bytes, whose sums stay in registers: with VECTORS vectors of
 * B's and one number of A's they fill the register file, and they are enough of them to hide the latency of a sum. */
#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

/* `rows` <= ROWS, a constant. */
TARGET static inline __attribute__((always_inline)) void
JOIN(TILE, _sums)(int rows, const gemm_block_t *t, const float *a, const float *b, float *c, const float *from) {
    typedef float vec_t __attribute__((vector_size(BYTES)));
    typedef float loose_t __attribute__((vector_size(BYTES), aligned(4))); /* at any address */
    enum { WIDTH = BYTES / 4 };
    const int64_t lda = t->lda, k = t->k;
    vec_t sum[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int h = 0; h < rows; h++)
#pragma GCC unroll 3
        for (int g = 0; g < VECTORS; g++) {
            sum[h][g] = (vec_t){0};
            __builtin_prefetch(c + h * t->ldc + g * WIDTH, 1);
        }
    for (int64_t l = 0; l < k; l++, a++, b += GEMM_COLS) {
        vec_t v[VECTORS];
#pragma GCC unroll 3
        for (int g = 0; g < VECTORS; g++) v[g] = (vec_t)(*(const loose_t *)(b + g * WIDTH));
#pragma GCC unroll 8
        for (int h = 0; h < rows; h++)
#pragma GCC unroll 3
            for (int g = 0; g < VECTORS; g++) sum[h][g] += a[h * lda] * v[g];
    }
    if (from) {
#pragma GCC unroll 8
        for (int h = 0; h < rows; h++, from += t->from_step)
#pragma GCC unroll 3
            for (int g = 0; g < VECTORS; g++) sum[h][g] += (vec_t)(*(const loose_t *)(from + g * WIDTH));
    }
#pragma GCC unroll 8
    for (int h = 0; h < rows; h++, c += t->ldc)
#pragma GCC unroll 3
        for (int g = 0; g < VECTORS; g++) *(loose_t *)(c + g * WIDTH) = (loose_t)sum[h][g];
}

TARGET static void TILE(const gemm_block_t *t) {
    enum { COLS = VECTORS * BYTES / 4 };
    for (int64_t j = 0; j < GEMM_COLS; j += COLS)
        for (int64_t i = 0, some; i < t->rows; i += some) {
            const float *a = t->a + i * t->lda, *b = t->b + j, *from = t->from ? t->from + i * t->from_step + j : NULL;
            float *c = t->c + i * t->ldc + j;
            int left = (int)(t->rows - i);
            some = left >= ROWS ? ROWS : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            if (left >= ROWS)
                JOIN(TILE, _sums)(ROWS, t, a, b, c, from);
            else if (left >= 4)
                JOIN(TILE, _sums)(4, t, a, b, c, from);
            else if (left >= 2)
                JOIN(TILE, _sums)(2, t, a, b, c, from);
            else
                JOIN(TILE, _sums)(1, t, a, b, c, from);
        }
}

/* Eight vectors by eight elements: out[l][i] = x[i * step + l]. */
TARGET static inline void JOIN(TILE, _turn_block)(const float *x, int64_t step, float *out) {
    lanes_t v[LANES];
    for (int h = 0; h < LANES; h++) v[h] = LOAD(x + h * step);
    lanes_transpose(v);
    for (int h = 0; h < LANES; h++) STORE(out + h * GEMM_COLS, v[h]);
}

/* Lines of x are used up once they are read. */
TARGET static void JOIN(TILE, _turn)(const float *x, int64_t step, int64_t count, int64_t k, float *panel) {
    enum { LINE = 16, AHEAD = 64 };
    for (int64_t l = 0; l < k; l += LINE)
        for (int64_t j = 0; j < count; j += 8) {
            const float *from = x + j * step + l;
            for (int h = 0; h < 8; h++) __builtin_prefetch(from + h * step + AHEAD);
            JOIN(TILE, _turn_block)(from, step, panel + l * GEMM_COLS + j);
            if (l + 8 < k) JOIN(TILE, _turn_block)(from + 8, step, panel + (l + 8) * GEMM_COLS + j);
        }
}

#undef JOIN
#undef JOIN_
#undef TILE
#undef TARGET
#undef BYTES
#undef ROWS
#undef VECTORS
