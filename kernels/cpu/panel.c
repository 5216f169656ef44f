/* Compiled with contraction on (CMakeLists.txt), as skinny.c. */
#include "kernels/cpu/panel.h"
#include "kernels/cpu/lanes.h"

/* `height` rows by `vectors` vectors, l from `from` to `to`. Rows of a stand row_step apart, of which rows behind the
 * last are read in its place; l moves by l_step. */
LANES_INLINE void tile(const panel_product_t *p, int height, int vectors, int64_t i, int64_t from, int64_t to,
                       int64_t row_step, int64_t l_step) {
    const float *a[2 * PANEL_ROWS], *b = p->b + from * PANEL;
    float *c = p->c + i * p->c_step;
    lanes_t sum[2 * PANEL_ROWS][2];
    for (int h = 0; h < height; h++) {
        a[h] = p->a + (row_step == 1 ? i + h : cpu_min(i + h, p->rows - 1) * row_step) + from * l_step;
        for (int g = 0; g < vectors; g++) sum[h][g] = p->acc ? LOAD(c + h * p->c_step + g * LANES) : (lanes_t){0};
    }
    for (int64_t l = 0; l < to - from; l++, b += PANEL) {
        lanes_t v[2];
        for (int g = 0; g < vectors; g++) v[g] = LOAD(b + g * LANES);
        for (int h = 0; h < height; h++) {
            lanes_t x = SAME(a[h][l * l_step]);
            for (int g = 0; g < vectors; g++) sum[h][g] += x * v[g];
        }
    }
    for (int h = 0; h < height; h++)
        for (int g = 0; g < vectors; g++) STORE(c + h * p->c_step + g * LANES, sum[h][g]);
}

LANES_CLONES static void panel_scores_full(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS) tile(p, PANEL_ROWS, 2, i, 0, p->count, p->a_step, 1);
}

/* Half as wide and twice as high: as many sums hide each other's latency. */
LANES_CLONES static void panel_scores_half(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += 2 * PANEL_ROWS) tile(p, 2 * PANEL_ROWS, 1, i, 0, p->count, p->a_step, 1);
}

void panel_scores(const panel_product_t *p, bool half) {
    if (half)
        panel_scores_half(p);
    else
        panel_scores_full(p);
}

LANES_CLONES static void panel_by_rows_all(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS)
        tile(p, PANEL_ROWS, 2, i, 0, cpu_min(p->count, p->seen + i + PANEL_ROWS - 1), p->a_step, 1);
}

void panel_by_rows(const panel_product_t *p) {
    panel_by_rows_all(p);
}

LANES_CLONES static void panel_by_columns_all(const panel_product_t *p) {
    for (int64_t i = 0; i < p->rows; i += PANEL_ROWS)
        tile(p, PANEL_ROWS, 2, i, cpu_min(p->count, cpu_max(0, i - p->seen + 1)), p->count, 1, p->a_step);
}

void panel_by_columns(const panel_product_t *p) {
    panel_by_columns_all(p);
}

LANES_INLINE void copy_row(const float *x, int64_t cols, float factor, int64_t step, float *p) {
    int64_t c = 0;
    for (; c + PANEL <= cols; c += PANEL, p += step)
        for (int g = 0; g < PANEL; g += LANES) STORE(p + g, LOAD(x + c + g) * factor);
    for (int64_t l = 0; c < panel_round(cols); c++, l++) p[l] = c < cols ? x[c] * factor : 0;
}

LANES_CLONES static void panel_copy_all(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor,
                                        int64_t depth, float *p) {
    for (int64_t l = 0; l < rows; l++) copy_row(x + l * stride, cols, factor, depth * PANEL, p + l * PANEL);
}

void panel_copy(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor, int64_t depth, float *p) {
    panel_copy_all(x, stride, rows, cols, factor, depth, p);
}

/* A square of LANES columns and `rows` rows, the last again up to LANES. */
LANES_INLINE void transpose_square(const float *x, int64_t stride, int64_t rows, float factor, float *p) {
    lanes_t v[LANES];
    for (int h = 0; h < LANES; h++) v[h] = LOAD(x + cpu_min(h, rows - 1) * stride) * factor;
    lanes_transpose(v);
    for (int h = 0; h < LANES; h++) STORE(p + h * PANEL, v[h]);
}

LANES_CLONES static void panel_transpose_all(const float *x, int64_t stride, int64_t rows, int64_t cols, float factor,
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

LANES_CLONES static void panel_read_all(const float *p, int64_t depth, int64_t rows, int64_t cols, const float *factor,
                                        bool acc, float *y, int64_t stride) {
    for (int64_t i = 0; i < rows; i++) {
        const float *from = p + i * PANEL;
        float *to = y + i * stride, f = factor ? factor[i] : 1;
        int64_t c = 0;
        for (; c + PANEL <= cols; c += PANEL, from += depth * PANEL)
            for (int g = 0; g < PANEL; g += LANES) {
                lanes_t v = LOAD(from + g) * f;
                STORE(to + c + g, acc ? LOAD(to + c + g) + v : v);
            }
        for (int64_t l = 0; c < cols; c++, l++) to[c] = acc ? to[c] + from[l] * f : from[l] * f;
    }
}

void panel_read(const float *p, int64_t depth, int64_t rows, int64_t cols, const float *factor, bool acc, float *y,
                int64_t stride) {
    panel_read_all(p, depth, rows, cols, factor, acc, y, stride);
}
