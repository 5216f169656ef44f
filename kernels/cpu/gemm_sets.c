/* Compiled with contraction on (CMakeLists.txt): a product and a sum become one instruction where there is one. */
#include "kernels/cpu/gemm.h"
#include "kernels/cpu/lanes.h"

#if defined(__x86_64__)
#define TILE    tile_avx512
#define TARGET  __attribute__((target("avx512f")))
#define BYTES   64
#define ROWS    8
#define VECTORS 3
#include "kernels/cpu/gemm_tile.h"

#define TILE    tile_avx2
#define TARGET  __attribute__((target("avx2,fma")))
#define BYTES   32
#define ROWS    4
#define VECTORS 3
#include "kernels/cpu/gemm_tile.h"

static bool avx512_present(void) {
    return __builtin_cpu_supports("avx512f");
}
static bool avx2_present(void) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}
#elif defined(__aarch64__)
#define TILE tile_neon
#define TARGET
#define BYTES   16
#define ROWS    8
#define VECTORS 3
#include "kernels/cpu/gemm_tile.h"
#endif

static bool any_present(void) {
    return true;
}

#define TILE tile_any
#define TARGET
#define BYTES   16
#define ROWS    4
#define VECTORS 2
#include "kernels/cpu/gemm_tile.h"

const gemm_set_t gemm_sets[] = {
#if defined(__x86_64__)
    {"avx512", avx512_present, tile_avx512, tile_avx512_turn},
    {"avx2", avx2_present, tile_avx2, tile_avx2_turn},
#elif defined(__aarch64__)
    {"neon", any_present, tile_neon, tile_neon_turn},
#endif
    {"any", any_present, tile_any, tile_any_turn},
    {NULL, NULL, NULL, NULL},
};

const gemm_set_t *gemm_set(void) {
    const gemm_set_t *set = gemm_sets;
    while (!set->present()) set++;
    return set;
}
