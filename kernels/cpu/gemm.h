/* C = A B^T of float matrices whose rows lie along the inner length, as activations and weights do, on the calling
 * thread. Libraries turn B once a tile; here it is turned once, into panels of GEMM_COLS of its rows, element (j, l) at
 * [l][j], the last filled up with zeros. A is read where it lies.
 *
 * A sum runs over l in order, with one rounding a term where there is fused multiply and add. So an element's bits
 * depend on its two rows alone: not on where C is cut, nor on which of the sets with fused multiply and add there is.
 * *local* */
#pragma once
#include "kernels/cpu/cpu.h"

enum { GEMM_ROWS = 8, GEMM_COLS = 48 };

/* C[rows, cols] = A B^T + from. In a tile rows <= GEMM_ROWS, cols = GEMM_COLS, and b is one panel. */
typedef struct gemm_block {
    const float *a, *b;
    int64_t rows, cols, k, lda;
    float *c;
    int64_t ldc;
    const float *from; /* rows from_step apart: C itself, or one row for all with 0; NULL: nothing */
    int64_t from_step;
} gemm_block_t;

/* The same for several instruction sets. */
typedef struct gemm_set {
    const char *name;
    bool (*present)(void); /* on this processor */
    void (*tile)(const gemm_block_t *t);
    /* panel[l][j] = x[j * step + l], j < count, l < k, both multiples of 8. */
    void (*turn)(const float *x, int64_t step, int64_t count, int64_t k, float *panel);
} gemm_set_t;
extern const gemm_set_t gemm_sets[]; /* the fastest first, the last present everywhere; then one without a name */
const gemm_set_t *gemm_set(void);    /* the first that is present */

/* Floats of the panels of `cols` rows of B over k. */
static inline int64_t gemm_panels(int64_t cols, int64_t k) {
    return cpu_parts(cols, GEMM_COLS) * GEMM_COLS * k;
}
void gemm_pack(const gemm_set_t *set, const float *b, int64_t ldb, int64_t cols, int64_t k, float *panels);

/* Any number of rows and columns. */
void gemm_block(const gemm_set_t *set, const gemm_block_t *g);
