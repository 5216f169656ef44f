#include "kernels/cpu/dropout.h"
#include <string.h>
#include "kernels/philox.h"

#if defined(__x86_64__)
#include <immintrin.h>

#define NAME           row_avx512
#define TARGET         __attribute__((target("avx512f")))
#define COUNT          8
#define MULTIPLY(a, b) ((words_t)_mm512_mul_epu32((__m512i)(a), (__m512i)(b)))
#define FIRST(x, y)    __builtin_shufflevector(x, y, 0, 8, 1, 9, 2, 10, 3, 11)
#define SECOND(x, y)   __builtin_shufflevector(x, y, 4, 12, 5, 13, 6, 14, 7, 15)
#include "kernels/cpu/dropout_tile.h"

#define NAME           row_avx2
#define TARGET         __attribute__((target("avx2")))
#define COUNT          4
#define MULTIPLY(a, b) ((words_t)_mm256_mul_epu32((__m256i)(a), (__m256i)(b)))
#define FIRST(x, y)    __builtin_shufflevector(x, y, 0, 4, 1, 5)
#define SECOND(x, y)   __builtin_shufflevector(x, y, 2, 6, 3, 7)
#include "kernels/cpu/dropout_tile.h"

static bool avx512_present(void) {
    return __builtin_cpu_supports("avx512f");
}
static bool avx2_present(void) {
    return __builtin_cpu_supports("avx2");
}
#endif

static void row_any(const dropout_t *d, uint64_t row, const uint64_t *block, int64_t blocks, float *factor) {
    for (int64_t g = 0; g < blocks; g++) {
        const uint64_t index = row ^ block[g];
        const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), (uint32_t)d->step,
                                     (uint32_t)(d->step >> 32)};
        uint32_t word[4];
        philox4x32(counter, d->key, word);
        for (int i = 0; i < 4; i++) factor[4 * g + i] = (int32_t)(word[i] >> 8) >= d->threshold ? d->keep_scale : 0;
    }
}

static bool any_present(void) {
    return true;
}

const dropout_set_t dropout_sets[] = {
#if defined(__x86_64__)
    {"avx512", avx512_present, row_avx512},
    {"avx2", avx2_present, row_avx2},
#endif
    {"any", any_present, row_any},
    {NULL, NULL, NULL},
};

const dropout_set_t *dropout_set(void) {
    const dropout_set_t *set = dropout_sets;
    while (!set->present()) set++;
    return set;
}
