/* Compiled with contraction on (CMakeLists.txt), as skinny.c. */
#include "kernels/cpu/panel.h"

/* Chosen by the one feature that counts, which comes with sixteen vectors of eight: four rows by two of them. */
#if defined(__x86_64__) && !defined(GRAFT_SANITIZE)
#define PANEL_CLONES __attribute__((target_clones("fma", "default")))
#else
#define PANEL_CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef float vec_t __attribute__((vector_size(32)));
typedef float loose_t __attribute__((vector_size(32), aligned(4))); /* at any address */

#define LOAD(p)     ((vec_t)(*(const loose_t *)(p)))
#define STORE(p, v) (*(loose_t *)(p) = (loose_t)(v))
/* the same number eight times, in a form that compilers turn into one load */
#define SAME(x) ((vec_t){(x), (x), (x), (x), (x), (x), (x), (x)})

/* `height` rows by `vectors` vectors, l from `from` to `to`. Rows of a stand row_step apart, of which rows behind the
 * last are read in its place; l moves by l_step. */
INLINE void tile(const panel_product_t *p, int height, int vectors, int64_t i, int64_t from, int64_t to,
                 int64_t row_step, int64_t l_step) {
    const float *a[2 * PANEL_ROWS], *b = p->b + from * PANEL;
    float *c = p->c + i * p->c_step;
    vec_t sum[2 * PANEL_ROWS][2];
    for (int h = 0; h < height; h++) {
        a[h] = p->a + (row_step == 1 ? i + h : cpu_min(i + h, p->rows - 1) * row_step) + from * l_step;
        for (int g = 0; g < vectors; g++) sum[h][g] = p->acc ? LOAD(c + h * p->c_step + g * LANES) : (vec_t){0};
    }
    for (int64_t l = 0; l < to - from; l++, b += PANEL) {
        vec_t v[2];
        for (int g = 0; g < vectors; g++) v[g] = LOAD(b + g * LANES);
        for (int h = 0; h < height; h++) {
            vec_t x = SAME(a[h][l * l_step]);
            for (int g = 0; g < vectors; g++) sum[h][g] += x * v[g];
        }
    }
    for (int h = 0; h < height; h++)
        for (int g = 0; g < vectors; g++) STORE(c + h * p->c_step + g * LANES, sum[h][g]);
}

PANEL_CLONES static void panel_scores_full(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS) tile(p, PANEL_ROWS, 2, i, 0, p->count, p->a_step, 1);
}

/* Half as wide and twice as high: as many sums hide each other's latency. */
PANEL_CLONES static void panel_scores_half(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += 2 * PANEL_ROWS) tile(p, 2 * PANEL_ROWS, 1, i, 0, p->count, p->a_step, 1);
}

void panel_scores(const panel_product_t *p, bool half) {
    if (half)
        panel_scores_half(p);
    else
        panel_scores_full(p);
}

PANEL_CLONES static void panel_by_rows_all(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS)
        tile(p, PANEL_ROWS, 2, i, 0, cpu_min(p->count, p->seen + i + PANEL_ROWS - 1), p->a_step, 1);
}

void panel_by_rows(const panel_product_t *p) {
    panel_by_rows_all(p);
}

PANEL_CLONES static void panel_by_columns_all(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS)
        tile(p, PANEL_ROWS, 2, i, cpu_min(p->count, cpu_max(0, i - p->seen + 1)), p->count, 1, p->a_step);
}

void panel_by_columns(const panel_product_t *p) {
    panel_by_columns_all(p);
}

INLINE void copy_row(const float *x, int64_t cols, float factor, int64_t step, float *p) {
    int64_t c = 0;
    for (; c + PANEL <= cols; c += PANEL, p += step)
        for (int g = 0; g < PANEL; g += LANES) STORE(p + g, LOAD(x + c + g) * factor);
    for (int64_t l = 0; c < panel_round(cols); c++, l++) p[l] = c < cols ? x[c] * factor : 0;
}

PANEL_CLONES static void panel_copy_all(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor,
                                        int64_t depth, float *p) {
    for (int64_t l = 0; l < rows; l++) copy_row(x + l * stride, cols, factor, depth * PANEL, p + l * PANEL);
}

void panel_copy(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor, int64_t depth, float *p) {
    panel_copy_all(x, stride, rows, cols, factor, depth, p);
}

/* A square of LANES columns and `rows` rows, the last again up to LANES: pairs of rows, of pairs and of fours change
 * places. */
INLINE void transpose_square(const float *x, int64_t stride, int64_t rows, float factor, float *p) {
    vec_t a[LANES], b[LANES];
    for (int h = 0; h < LANES; h++) a[h] = LOAD(x + cpu_min(h, rows - 1) * stride) * factor;
    for (int h = 0; h < LANES; h += 2) {
        b[h] = __builtin_shufflevector(a[h], a[h + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        b[h + 1] = __builtin_shufflevector(a[h], a[h + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int h = 0; h < LANES; h += 4)
        for (int g = 0; g < 2; g++) {
            a[h + 2 * g] = __builtin_shufflevector(b[h + g], b[h + 2 + g], 0, 1, 8, 9, 4, 5, 12, 13);
            a[h + 2 * g + 1] = __builtin_shufflevector(b[h + g], b[h + 2 + g], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int h = 0; h < 4; h++) {
        STORE(p + h * PANEL, __builtin_shufflevector(a[h], a[h + 4], 0, 1, 2, 3, 8, 9, 10, 11));
        STORE(p + (h + 4) * PANEL, __builtin_shufflevector(a[h], a[h + 4], 4, 5, 6, 7, 12, 13, 14, 15));
    }
}

PANEL_CLONES static void panel_transpose_all(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor,
                                             int64_t first, float *p) {
    for (int64_t j = first; j < first + rows;) {
        float *to = p + j / PANEL * PANEL * cols + j % PANEL;
        const float *from = x + (j - first) * stride;
        int64_t height = j % LANES == 0 ? LANES : 1, left = cpu_min(height, first + rows - j), c = 0;
        for (; height == LANES && c + LANES <= cols; c += LANES)
            transpose_square(from + c, stride, left, factor, to + c * PANEL);
        for (; c < cols; c++)
            for (int64_t h = 0; h < height; h++) to[c * PANEL + h] = from[cpu_min(h, left - 1) * stride + c] * factor;
        j += height;
    }
}

void panel_transpose(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor, int64_t first,
                     float *p) {
    panel_transpose_all(x, stride, rows, cols, factor, first, p);
}

PANEL_CLONES static void panel_read_all(const float *p, int64_t depth, int64_t rows, int64_t cols, const float *factor,
                                        bool acc, float *y, int64_t stride) {
    for (int64_t i = 0; i < rows; i++) {
        const float *from = p + i * PANEL;
        float *to = y + i * stride, f = factor ? factor[i] : 1;
        int64_t c = 0;
        for (; c + PANEL <= cols; c += PANEL, from += depth * PANEL)
            for (int g = 0; g < PANEL; g += LANES) {
                vec_t v = LOAD(from + g) * f;
                STORE(to + c + g, acc ? LOAD(to + c + g) + v : v);
            }
        for (int64_t l = 0; c < cols; c++, l++) to[c] = acc ? to[c] + from[l] * f : from[l] * f;
    }
}

void panel_read(const float *p, int64_t depth, int64_t rows, int64_t cols, const float *factor, bool acc, float *y,
                int64_t stride) {
    panel_read_all(p, depth, rows, cols, factor, acc, y, stride);
}
