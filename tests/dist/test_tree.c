/* The canonical reduction in one process: the shares, the schedule of every rank simulated side by side, and the real
 * tree on one rank, all against the definition of the tree (a recursion over halves). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/philox.h"
#include "train/comm/tree.h"
#include "train/comm/tree_plan.h"

enum { MAX_MICRO = 40, MAX_RANKS = 11, LEVELS = 8, ITEMS = 37 };

/* Values of very different size, so that nearly every other order of addition gives other bits. */
static float value(int64_t micro, int64_t item) {
    uint32_t w[4];
    rng_words(7, RNG_INIT, (uint64_t)micro, (uint64_t)item, w);
    float v = rng_unit(w[0]) - 0.5f;
    for (uint32_t k = 0; k < w[1] % 12; k++) v *= 0.25f;
    return v;
}

/* Node (level, index) by definition. */
static float reference(int64_t M, int level, int64_t index, int64_t item) {
    if (level == 0) return value(index, item);
    float left = reference(M, level - 1, 2 * index, item);
    if ((2 * index + 1) << (level - 1) >= M) return left;
    return left + reference(M, level - 1, 2 * index + 1, item);
}

static int top(int64_t M) {
    int level = 0;
    while ((int64_t)1 << level < M) level++;
    return level;
}

static void assert_bits(float a, float b) {
    uint32_t x, y;
    memcpy(&x, &a, sizeof x);
    memcpy(&y, &b, sizeof y);
    assert_int_equal(x, y);
}

static void shares_cover_and_have_owners(void **state) {
    (void)state;
    for (int64_t M = 0; M <= MAX_MICRO; M++)
        for (int size = 1; size <= MAX_RANKS; size++) {
            int64_t end = 0;
            for (int r = 0; r < size; r++) {
                int64_t lo, hi;
                tree_share(M, size, r, &lo, &hi);
                assert_int_equal(lo, end);
                assert_true(hi - lo == M / size || hi - lo == M / size + 1);
                for (int64_t m = lo; m < hi; m++) assert_int_equal(tree_owner(M, size, m), r);
                end = hi;
            }
            assert_int_equal(end, M);
        }
}

/* Shares of ZeRO-1 are aligned and, but for the last one, equal. */
static void vectors_are_shared_out(void **state) {
    (void)state;
    for (int64_t n = 0; n < 2000; n += n < 100 ? 1 : 37)
        for (int size = 1; size <= MAX_RANKS; size++) {
            int64_t end = 0, first, count, each;
            comm_data_share(n, size, 0, &first, &each);
            for (int r = 0; r < size; r++) {
                comm_data_share(n, size, r, &first, &count);
                assert_int_equal(first, end);
                assert_int_equal(first % 32, 0);
                assert_true(count >= 0 && (count == each || r == size - 1));
                end = first + count;
            }
            assert_int_equal(end, n);
            assert_true(count - each < 32 * size || size == 1);
        }
}

/* The vectors that are reserved are as many as the tree's definition leaves at once, and one more. */
static void few_nodes_are_needed(void **state) {
    (void)state;
    assert_int_equal(tree_nodes(0, 0, 1), 1);
    assert_int_equal(tree_nodes(0, 1, 1), 1);
    assert_int_equal(tree_nodes(0, 1, 2), 2);
    assert_int_equal(tree_nodes(0, 8, 8), 4); /* 4 + 2 + 1 and the leaf that follows */
    assert_int_equal(tree_nodes(0, 64, 64), 7);
    assert_int_equal(tree_nodes(1, 8, 8), 5); /* 1, 2..3, 4..5, 6 and 7 */
    assert_int_equal(tree_nodes(0, 3, 3), 2);
    assert_int_equal(tree_nodes(0, 3, 4), 3); /* 0..1, 2 and a message */
    assert_int_equal(tree_nodes(31, 33, 64), 3);
}

static void schedule_gives_the_tree(void **state) {
    (void)state;
    for (int64_t M = 1; M <= MAX_MICRO; M++)
        for (int size = 1; size <= MAX_RANKS; size++) {
            float sum[LEVELS][MAX_MICRO + 1];
            bool have[LEVELS][MAX_MICRO + 1] = {{false}};
            for (int64_t m = 0; m < M; m++) {
                sum[0][m] = value(m, 0);
                have[0][m] = true;
            }
            int level = 0;
            int64_t merges = 0;
            tree_merge_t g = {.M = M, .size = size};
            while (tree_next(&g)) {
                for (; level < g.level; level++) /* an only child is its parent */
                    for (int64_t i = 0; i << level < M; i += 2)
                        if ((i + 1) << level >= M) {
                            sum[level + 1][i / 2] = sum[level][i];
                            have[level + 1][i / 2] = true;
                        }
                assert_true(have[g.level][g.right] && have[g.level][g.right - 1]);
                assert_int_equal(g.into, tree_owner(M, size, (g.right - 1) << g.level));
                assert_true(g.from >= g.into && g.from < size);
                sum[g.level + 1][g.right / 2] = sum[g.level][g.right - 1] + sum[g.level][g.right];
                have[g.level + 1][g.right / 2] = true;
                have[g.level][g.right] = have[g.level][g.right - 1] = false; /* used once only */
                merges++;
            }
            assert_int_equal(merges, M - 1);
            assert_true(have[top(M)][0]);
            assert_bits(sum[top(M)][0], reference(M, top(M), 0, 0));
        }
}

static void one_rank_sums_the_tree(void **state) {
    (void)state;
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("PMI_SIZE");
    unsetenv("PMI_RANK");
    unsetenv("PMIX_RANK");
    comm_t *c = NULL;
    comm_data_t *d = NULL;
    tree_t *t = NULL;
    assert_int_equal(comm_open(&c), ST_OK);
    assert_int_equal(comm_size(c), 1);
    assert_true(comm_threads(c) >= 1);
    assert_int_equal(comm_data_open(c, &(comm_data_options_t){.device = NULL}, &d), ST_OK);
    assert_string_equal(comm_data_name(d), "none");
    float out[ITEMS];
    assert_int_equal(tree_open(d, &vector_cpu, ITEMS, out, &t), ST_OK);
    int64_t differs = 0;
    for (int64_t M = 1; M <= MAX_MICRO; M++) {
        float plain[ITEMS] = {0};
        assert_int_equal(tree_begin(t, M), ST_OK);
        for (int64_t m = 0; m < M; m++) {
            float *leaf = tree_leaf(t);
            for (int64_t i = 0; i < ITEMS; i++) {
                assert_true(leaf[i] == 0.0f);
                leaf[i] += value(m, i);
                plain[i] += value(m, i);
            }
            tree_push(t);
        }
        tree_finish(t);
        for (int64_t i = 0; i < ITEMS; i++) {
            assert_bits(out[i], reference(M, top(M), 0, i));
            differs += memcmp(&out[i], &plain[i], sizeof out[i]) != 0;
        }
    }
    assert_true(differs > MAX_MICRO); /* the values can tell orders apart */
    tree_close(t);
    comm_data_close(d);
    comm_close(c);
}

static void agreement_of_one_keeps_status_and_message(void **state) {
    (void)state;
    comm_t *c = NULL;
    assert_int_equal(comm_open(&c), ST_OK);
    assert_int_equal(comm_agree(c, ST_OK), ST_OK);
    status_t st = st_raise(ST_INPUT, "a.jsonl", "line 3 is no JSON");
    assert_int_equal(comm_agree(c, st), ST_INPUT);
    assert_string_equal(st_message(), "a.jsonl: line 3 is no JSON");
    assert_int_equal(comm_watchdog(c, 100), ST_OK);
    comm_beat(c, "here");
    assert_int_equal(comm_watchdog(c, 0), ST_OK);
    comm_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_cover_and_have_owners), cmocka_unit_test(vectors_are_shared_out),
        cmocka_unit_test(few_nodes_are_needed),         cmocka_unit_test(schedule_gives_the_tree),
        cmocka_unit_test(one_rank_sums_the_tree),       cmocka_unit_test(agreement_of_one_keeps_status_and_message),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
