/* Packing: nothing is lost, nothing is too long, as few micro-batches as possible, evenly filled. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "data/pack.h"
#include "kernels/philox.h"

enum { MOST = 300 };

/* Checks the invariants; gives the largest and the smallest fill. */
static void check(const pack_t *p, const int32_t *lengths, int64_t n, int32_t capacity, int64_t *most, int64_t *least) {
    int seen[MOST] = {0};
    int64_t before = -1;
    *most = 0;
    *least = INT64_MAX;
    assert_int_equal(p->start[0], 0);
    assert_int_equal(p->start[p->n_micro], n);
    for (int64_t m = 0; m < p->n_micro; m++) {
        int64_t fill = 0;
        assert_true(p->start[m] < p->start[m + 1]);
        assert_true(p->order[p->start[m]] > before); /* in the order of their first sequence */
        before = p->order[p->start[m]];
        for (int64_t k = p->start[m]; k < p->start[m + 1]; k++) {
            assert_int_equal(seen[p->order[k]]++, 0);
            if (k > p->start[m]) assert_true(p->order[k] > p->order[k - 1]);
            fill += lengths[p->order[k]];
        }
        assert_true(fill <= capacity);
        if (fill > *most) *most = fill;
        if (fill < *least) *least = fill;
    }
}

static void expect(const int32_t *lengths, int64_t n, int32_t capacity, int64_t micro, int64_t most) {
    pack_t p = {0};
    int64_t largest, least;
    assert_int_equal(pack_step(&p, PACKING_BEST_FIT, lengths, n, capacity), ST_OK);
    check(&p, lengths, n, capacity, &largest, &least);
    assert_int_equal(p.n_micro, micro);
    assert_int_equal(largest, most);
    pack_release(&p);
}

static void test_known(void **state) {
    (void)state;
    expect((const int32_t[]){5}, 1, 5, 1, 5);
    expect((const int32_t[]){6, 4, 7, 3, 8, 2}, 6, 10, 3, 10);
    expect((const int32_t[]){1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 10, 8, 2, 5); /* 5 + 5, not 8 + 2 */
    expect((const int32_t[]){5, 5, 5}, 3, 9, 3, 5);
    expect((const int32_t[]){64, 64, 1}, 3, 128, 2, 65);
    expect((const int32_t[]){3, 3, 2, 2, 2}, 5, 10, 2, 6); /* 6 + 6 */
    expect((const int32_t[]){127, 65, 63, 1}, 4, 128, 2, 128);
}

static void test_none_and_wrapped(void **state) {
    (void)state;
    const int32_t lengths[] = {1, 9, 2};
    int64_t most, least;
    pack_t p = {0};
    assert_int_equal(pack_step(&p, PACKING_NONE, lengths, 3, 10), ST_OK);
    check(&p, lengths, 3, 10, &most, &least);
    assert_int_equal(p.n_micro, 3);
    assert_int_equal(pack_step(&p, PACKING_WRAPPED, lengths, 3, 10), ST_OK); /* windows are packed like sequences */
    assert_int_equal(p.n_micro, 2);
    assert_int_equal(pack_step(&p, PACKING_BEST_FIT, lengths, 0, 10), ST_OK);
    assert_int_equal(p.n_micro, 0);
    assert_int_equal(pack_step(&p, PACKING_BEST_FIT, lengths, 3, 8), ST_INTERNAL);
    pack_release(&p);
}

static void test_random(void **state) {
    (void)state;
    pack_t p = {0}, q = {0};
    for (uint64_t round = 0; round < 300; round++) {
        uint32_t w[4];
        int32_t lengths[MOST], capacity;
        rng_words(1, RNG_SAMPLE, round, 0, w);
        int64_t n = 1 + w[0] % MOST, sum = 0, most, least;
        capacity = 1 + (int32_t)(w[1] % 2048);
        for (int64_t i = 0; i < n; i++) {
            rng_words(1, RNG_SAMPLE, round, (uint64_t)i + 1, w);
            lengths[i] = 1 + (int32_t)(w[0] % (uint32_t)capacity);
            if (round % 2) lengths[i] = 1 + lengths[i] / 8 % capacity;
            sum += lengths[i];
        }
        assert_int_equal(pack_step(&p, PACKING_BEST_FIT, lengths, n, capacity), ST_OK);
        check(&p, lengths, n, capacity, &most, &least);
        int64_t bound = (sum + capacity - 1) / capacity;
        assert_true(p.n_micro <= bound * 11 / 9 + n / 2 + 1);
        if (round % 2 && n > 100 && capacity > 64) { /* short sequences: no waste, and fills differ by little */
            assert_int_equal(p.n_micro, bound);
            assert_true((most - least) * 5 <= most);
        }
        assert_int_equal(pack_step(&q, PACKING_BEST_FIT, lengths, n, capacity), ST_OK); /* the same again */
        assert_int_equal(p.n_micro, q.n_micro);
        assert_memory_equal(p.order, q.order, (size_t)n * sizeof *p.order);
    }
    pack_release(&p);
    pack_release(&q);
}

/* The fewest micro-batches by trying everything. */
static int64_t fewest(const int32_t *lengths, int n, int i, int32_t *fill, int used, int32_t capacity, int64_t best) {
    if (used >= best) return best;
    if (i == n) return used;
    for (int m = 0; m <= used; m++) {
        if (fill[m] + lengths[i] > capacity) continue;
        fill[m] += lengths[i];
        best = fewest(lengths, n, i + 1, fill, used + (m == used), capacity, best);
        fill[m] -= lengths[i];
    }
    return best;
}

static void test_against_search(void **state) {
    (void)state;
    pack_t p = {0};
    int exact = 0;
    for (uint64_t round = 0; round < 200; round++) {
        int32_t lengths[8], fill[9] = {0};
        for (uint64_t i = 0; i < 8; i++) {
            uint32_t w[4];
            rng_words(2, RNG_SAMPLE, round, i, w);
            lengths[i] = 1 + (int32_t)(w[0] % 60);
        }
        assert_int_equal(pack_step(&p, PACKING_BEST_FIT, lengths, 8, 100), ST_OK);
        int64_t best = fewest(lengths, 8, 0, fill, 0, 100, 9);
        assert_true(p.n_micro <= best + 1);
        exact += p.n_micro == best;
    }
    assert_true(exact >= 190);
    pack_release(&p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_none_and_wrapped),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_against_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
