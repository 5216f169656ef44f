/* Vectors of eight floats, as GCC and clang have them, for files that are compiled with contraction on. What they
 * become is the business of the function they are inlined into: its target attribute, or its clones. *local* */
#pragma once
#include "kernels/cpu/cpu.h"

/* Clones chosen by the one feature that counts: it comes with sixteen vectors of eight. */
#if defined(__x86_64__) && !defined(GRAFT_SANITIZE)
#define LANES_CLONES __attribute__((target_clones("fma", "default")))
#else
#define LANES_CLONES
#endif
#define LANES_INLINE static inline __attribute__((always_inline))

enum { LANES = 8 };
typedef float lanes_t __attribute__((vector_size(32)));
typedef float loose_lanes_t __attribute__((vector_size(32), aligned(4))); /* at any address */

#define LOAD(p)     ((lanes_t)(*(const loose_lanes_t *)(p)))
#define STORE(p, v) (*(loose_lanes_t *)(p) = (loose_lanes_t)(v))
/* the same number eight times, in a form that compilers turn into one load */
#define SAME(x) ((lanes_t){(x), (x), (x), (x), (x), (x), (x), (x)})

/* Eight vectors change rows for columns: pairs of rows, of pairs and of fours change places. */
LANES_INLINE void lanes_transpose(lanes_t v[LANES]) {
    lanes_t a[LANES], b[LANES];
    for (int h = 0; h < LANES; h += 2) {
        a[h] = __builtin_shufflevector(v[h], v[h + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        a[h + 1] = __builtin_shufflevector(v[h], v[h + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int h = 0; h < LANES; h += 4)
        for (int g = 0; g < 2; g++) {
            b[h + 2 * g] = __builtin_shufflevector(a[h + g], a[h + 2 + g], 0, 1, 8, 9, 4, 5, 12, 13);
            b[h + 2 * g + 1] = __builtin_shufflevector(a[h + g], a[h + 2 + g], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int h = 0; h < 4; h++) {
        v[h] = __builtin_shufflevector(b[h], b[h + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        v[h + 4] = __builtin_shufflevector(b[h], b[h + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
}
