/* Compiled with contraction on (CMakeLists.txt): a product and a sum become one instruction where there is one, which
 * doubles the rate. Results depend on the instruction set, as those of the library's products do. */
#include "kernels/cpu/skinny.h"
#include "kernels/cpu/lanes.h"

/* Wider vectors than those of LANES bring little at r = 8. */
enum { PIECE = 16 };
static_assert((int)SKINNY_WIDTH == (int)LANES, "a packed row is whole vectors");

void skinny_pack(const float *a, int64_t rows, int64_t r, int64_t row_step, int64_t col_step, float *p) {
    int64_t width = skinny_row(r);
    for (int64_t l = 0; l < rows; l++)
        for (int64_t j = 0; j < width; j++) p[l * width + j] = j < r ? a[l * row_step + j * col_step] : 0;
}

/* Sums over l of a block of `rows` rows and one vector of columns. Eight sums hide each other's latency. */
LANES_INLINE void narrow_block(const skinny_narrow_t *s, int rows, int64_t i, int64_t column, int64_t from,
                               int64_t to) {
    int64_t width = skinny_row(s->r);
    const float *a = s->a + i * s->i_step + from * s->l_step, *p = s->p + from * width + column;
    float *c = s->c + i * width + column;
    lanes_t sum[8];
    for (int h = 0; h < rows; h++) sum[h] = from ? LOAD(c + h * width) : (lanes_t){0};
    for (int64_t l = from; l < to; l++, a += s->l_step, p += width) {
        lanes_t v = LOAD(p);
        for (int h = 0; h < rows; h++) sum[h] += SAME(a[h * s->i_step]) * v;
    }
    for (int h = 0; h < rows; h++) STORE(c + h * width, to == s->k ? sum[h] * s->factor : sum[h]);
}

/* All rows, over a piece of l. */
LANES_CLONES static void skinny_narrow_piece(const skinny_narrow_t *s, int64_t from, int64_t to) {
    for (int64_t column = 0; column < skinny_row(s->r); column += SKINNY_WIDTH) {
        int64_t i = 0;
        for (; i + 8 <= s->m; i += 8) narrow_block(s, 8, i, column, from, to);
        for (; i < s->m; i++) narrow_block(s, 1, i, column, from, to);
    }
}

/* Down the columns of a matrix, where rows may lie a power of two apart, no more lines than one set of the nearest
 * cache holds are read before the next columns take the rest of each line. */
void skinny_narrow(const skinny_narrow_t *s) {
    int64_t piece = s->l_step == 1 || s->k < PIECE ? s->k : PIECE;
    if (s->k == 0) memset(s->c, 0, (size_t)(s->m * skinny_row(s->r)) * sizeof *s->c);
    for (int64_t from = 0; from < s->k; from += piece) skinny_narrow_piece(s, from, cpu_min(s->k, from + piece));
}

/* `rows` rows by two vectors. */
LANES_INLINE void wide_block(const skinny_wide_t *s, int rows, int64_t i, int64_t j) {
    int64_t width = skinny_row(s->r), row = skinny_row(s->n);
    const float *p = s->p + j, *t = s->t + i * width;
    /* the rows that come next, of which a processor foresees little */
    for (int h = 0; h < rows; h++) __builtin_prefetch(s->c + cpu_min(s->m - 1, i + rows + h) * s->n + j, 1);
    lanes_t sum[4][2] = {{{0}}};
    for (int64_t l = 0; l < s->r; l++, p += row) {
        lanes_t v0 = LOAD(p), v1 = LOAD(p + SKINNY_WIDTH);
        for (int h = 0; h < rows; h++) {
            lanes_t x = SAME(t[h * width + l]);
            sum[h][0] += x * v0;
            sum[h][1] += x * v1;
        }
    }
    for (int h = 0; h < rows; h++)
        for (int g = 0; g < 2; g++) {
            float *c = s->c + (i + h) * s->n + j + g * SKINNY_WIDTH;
            STORE(c, s->acc ? LOAD(c) + sum[h][g] * s->factor : sum[h][g] * s->factor);
        }
}

/* The columns behind the last whole block. */
LANES_INLINE void wide_rest(const skinny_wide_t *s, int64_t i, int64_t first) {
    int64_t width = skinny_row(s->r), row = skinny_row(s->n);
    float *c = s->c + i * s->n;
    for (int64_t j = first; j < s->n; j++) {
        float sum = 0;
        for (int64_t l = 0; l < s->r; l++) sum += s->t[i * width + l] * s->p[l * row + j];
        c[j] = s->acc ? c[j] + sum * s->factor : sum * s->factor;
    }
}

LANES_CLONES static void skinny_wide_all(const skinny_wide_t *s) {
    int64_t whole = s->n / (2 * SKINNY_WIDTH) * (2 * SKINNY_WIDTH), i = 0;
    for (; i + 4 <= s->m; i += 4)
        for (int64_t j = 0; j < whole; j += 2 * SKINNY_WIDTH) wide_block(s, 4, i, j);
    for (; i < s->m; i++)
        for (int64_t j = 0; j < whole; j += 2 * SKINNY_WIDTH) wide_block(s, 1, i, j);
    for (i = 0; i < s->m; i++) wide_rest(s, i, whole);
}

void skinny_wide(const skinny_wide_t *s) {
    skinny_wide_all(s);
}
