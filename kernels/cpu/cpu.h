/* What all CPU kernels share: float32, OpenMP, one single-threaded GEMM per tile.
 *
 * Tiles are cut by cpu_tile from the shape alone and every sum over tiles has a fixed order, so any number of threads
 * gives the same bits. Scratch holds one part per thread: the number of threads must not grow between planning and
 * execution. *local* */
#pragma once
#include <omp.h>
#include <string.h>
#include "kernels/op.h"

#define OP(NAME, name)                                                                                                 \
    void cpu_##name##_fwd(const op_io_t *io);                                                                          \
    void cpu_##name##_bwd(const op_io_t *io);                                                                          \
    size_t cpu_##name##_scratch(const op_io_t *io);
#include "kernels/ops.def"
#undef OP

/* Loops compiled for several instruction sets, chosen at load time. Sanitizers cannot run before their own start-up,
 * which the choice at load time would need. clang 14 gives the chooser of a static function external linkage, so such
 * functions have names of their own over all files. */
#if defined(__x86_64__) && !defined(GRAFT_SANITIZE)
#define GRAFT_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define GRAFT_CLONES
#endif

static inline int64_t cpu_parts(int64_t total, int64_t tile) {
    return (total + tile - 1) / tile;
}

/* The size of equal tiles of at most about `tile` (a multiple of 8) that cover `total`; the last may be smaller. */
static inline int64_t cpu_tile(int64_t total, int64_t tile) {
    int64_t parts = cpu_parts(total, tile);
    if (parts <= 1) return tile;
    return ((total + parts - 1) / parts + 7) / 8 * 8;
}

static inline int64_t cpu_min(int64_t a, int64_t b) {
    return a < b ? a : b;
}
static inline int64_t cpu_max(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Row-major C[m,n] = alpha op(A) op(B) + beta C with op(A) [m,k], op(B) [k,n]; 'T' transposes. On one thread when
 * called inside a parallel region. beta = 0 never reads C. */
void cpu_gemm(char ta, char tb, int64_t m, int64_t n, int64_t k, float alpha, const float *a, int64_t lda,
              const float *b, int64_t ldb, float beta, float *c, int64_t ldc);

/* The first address from p on where a cache line begins; scratch that is used so is CPU_LINE bytes longer. */
enum { CPU_LINE = 64 };
static inline float *cpu_line(void *p) {
    return (float *)(void *)((char *)p + (CPU_LINE - (uintptr_t)p % CPU_LINE) % CPU_LINE);
}

/* One thread's part of scratch that holds `count` floats per thread after `shared` floats for all. */
static inline float *cpu_thread_scratch(const op_io_t *io, int64_t shared, int64_t count) {
    return (float *)io->scratch + shared + omp_get_thread_num() * count;
}
static inline size_t cpu_scratch_bytes(int64_t shared, int64_t count) {
    return sizeof(float) * (size_t)(shared + omp_get_max_threads() * count);
}
