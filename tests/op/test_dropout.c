/* Dropout's factors on every instruction set that this processor has are those of kernels/philox.h. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdlib.h>
#include "kernels/cpu/dropout.h"
#include "kernels/philox.h"

enum { BLOCKS = 5 * DROPOUT_LOT, MARGIN = 4 };

static void check_set(const dropout_set_t *set, uint64_t seed, uint64_t step, uint64_t row, int32_t threshold) {
    dropout_t d = {.step = step, .threshold = threshold, .keep_scale = 1.25f};
    rng_key(seed, RNG_DROPOUT, d.key);
    uint64_t block[BLOCKS];
    float factor[4 * BLOCKS + 2 * MARGIN];
    for (int i = 0; i < 4 * BLOCKS + 2 * MARGIN; i++) factor[i] = -1;
    for (uint64_t i = 0; i < BLOCKS; i++) block[i] = (i + 1) * 0x9E3779B97F4A7C15u;
    set->row(&d, row, block, BLOCKS, factor + MARGIN);
    for (int i = 0; i < MARGIN; i++)
        if (factor[i] != -1 || factor[4 * BLOCKS + MARGIN + i] != -1) fail_msg("%s writes outside", set->name);
    for (int i = 0; i < 4 * BLOCKS; i++) {
        uint32_t word[4];
        rng_words(seed, RNG_DROPOUT, step, row ^ block[i / 4], word);
        float want = (double)rng_unit(word[i % 4]) >= threshold * 0x1p-24 ? 1.25f : 0;
        if (factor[MARGIN + i] != want) fail_msg("%s: factor %d is %g", set->name, i, (double)factor[MARGIN + i]);
    }
}

static void test_factors(void **state) {
    (void)state;
    const int32_t thresholds[] = {0, 1 << 20, 0x800000, 0xffffff};
    int present = 0;
    for (const dropout_set_t *set = dropout_sets; set->name; set++) {
        if (!set->present()) continue;
        present++;
        for (uint64_t k = 0; k < 64; k++)
            check_set(set, k * 0xD1342543DE82EF95u, k << (k % 40), k * 0xA24BAED4963EE407u, thresholds[k % 4]);
    }
    assert_true(present > 0);
    assert_true(dropout_set()->present());
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_factors)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
