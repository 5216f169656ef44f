/* The training stream: permutations, epochs, weights of sources, ends and seeking. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/stream.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_files.h"

static char *dir;

static int setup(void **state) {
    (void)state;
    dir = scratch_create();
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(dir);
    return 0;
}

/* A data set of two files with n[k] documents; document i of a file has 2 + i % 5 tokens. */
static dataset_t *make(const int *n, const double *weight) {
    dataset_source_t sources[2];
    char *paths[2];
    for (int k = 0; k < 2; k++) {
        strbuf_t text = {0};
        char name[16];
        for (int i = 0; i < n[k]; i++)
            assert_int_equal(strbuf_addf(&text, "{\"text\": \"%.*s\"}\n", 1 + i % 5, "abcdef"), ST_OK);
        snprintf(name, sizeof name, "%d", k);
        paths[k] = scratch_file(dir, name, text.data, text.len);
        sources[k] = (dataset_source_t){paths[k], weight[k]};
        strbuf_release(&text);
    }
    dataset_options_t o = {
        .sources = sources, .n_sources = 2, .encoder = bytes_encoder(false), .max_seq_length = 100, .append_eos = true};
    dataset_t *d = NULL;
    if (dataset_open(&o, &d) != ST_OK || dataset_scan(d, 0, dataset_examples(d)) != ST_OK || dataset_finish(d) != ST_OK)
        fail_msg("%s", st_message());
    free(paths[0]);
    free(paths[1]);
    return d;
}

static stream_t *open_stream(const dataset_t *d, stream_options_t o) {
    stream_t *s = NULL;
    if (stream_open(d, &o, &s) != ST_OK) fail_msg("%s", st_message());
    return s;
}

static void test_permutation(void **state) {
    (void)state;
    const int64_t sizes[] = {1, 2, 3, 15, 16, 17, 100, 4096, 5000};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        int64_t n = sizes[k];
        char *seen = calloc((size_t)n, 1);
        assert_non_null(seen);
        for (int64_t i = 0; i < n; i++) {
            int64_t p = stream_permute(7, 3, 0, n, i);
            assert_in_range(p, 0, n - 1);
            assert_int_equal(seen[p]++, 0);
        }
        free(seen);
    }
    const int64_t huge = INT64_C(1) << 61; /* inside the range without overflow */
    for (int64_t i = 0; i < 100; i++) assert_in_range(stream_permute(1, 2, 1, huge, huge - 1 - i), 0, huge - 1);
}

/* Places of one item over many epochs are spread evenly; neighbours do not stay neighbours. */
static void test_permutation_mixes(void **state) {
    (void)state;
    enum { N = 10, EPOCHS = 4000 };
    int place[N][N] = {{0}}, neighbours = 0;
    for (uint64_t e = 0; e < EPOCHS; e++) {
        int64_t last = -2;
        for (int64_t i = 0; i < N; i++) {
            int64_t p = stream_permute(42, e, 0, N, i);
            place[i][p]++;
            neighbours += p == last + 1;
            last = p;
        }
    }
    for (int i = 0; i < N; i++)
        for (int p = 0; p < N; p++) assert_in_range(place[i][p], 300, 500); /* 400 expected, deviation 19 */
    assert_in_range(neighbours, 3300, 3900);                                /* 0.9 an epoch */
    int same = 0;
    for (int64_t i = 0; i < 1000; i++) same += stream_permute(1, 0, 0, 1000, i) == stream_permute(2, 0, 0, 1000, i);
    assert_in_range(same, 0, 10);
}

static void test_epochs_and_seek(void **state) {
    (void)state;
    const int n[] = {7, 4};
    const double weight[] = {1, 1};
    dataset_t *d = make(n, weight);
    stream_t *s = open_stream(d, (stream_options_t){.seed = 5, .shuffle = true, .global_batch_size = 4, .epochs = 2});
    assert_int_equal(stream_epoch_sequences(s), 11);
    assert_int_equal(stream_end(s), 22);
    assert_int_equal(stream_count_steps(s), 6);
    stream_step_t step = {0}, again = {0};
    int64_t order[22], place = 0, steps = 0;
    for (;; steps++) {
        assert_int_equal(stream_step(s, place, &step), ST_OK);
        if (step.n == 0) break;
        assert_int_equal(step.first, place);
        memcpy(order + place, step.sequences, (size_t)step.n * sizeof *order);
        assert_int_equal(step.n, place == 20 ? 2 : 4); /* the last step is short */
        place += step.n;
    }
    assert_int_equal(steps, 6);
    for (int e = 0; e < 2; e++) {
        int seen[11] = {0};
        for (int i = 0; i < 11; i++) assert_int_equal(seen[order[11 * e + i]]++, 0);
    }
    assert_memory_not_equal(order, order + 11, 11 * sizeof *order);
    assert_int_equal(stream_step(s, 13, &again), ST_OK); /* any place, in any order */
    assert_memory_equal(again.sequences, order + 13, 4 * sizeof *order);
    stream_close(s);
    s = open_stream(d, (stream_options_t){.seed = 6, .shuffle = true, .global_batch_size = 11});
    assert_int_equal(stream_step(s, 0, &step), ST_OK);
    assert_memory_not_equal(step.sequences, order, 11 * sizeof *order);
    assert_int_equal(stream_count_steps(s), -1);
    stream_close(s);
    stream_step_release(&step);
    stream_step_release(&again);
    dataset_close(d);
}

static void test_file_order(void **state) {
    (void)state;
    const int n[] = {3, 2};
    const double weight[] = {1, 1};
    dataset_t *d = make(n, weight);
    stream_t *s = open_stream(d, (stream_options_t){.global_batch_size = 8});
    stream_step_t step = {0};
    const int64_t want[] = {0, 1, 2, 3, 4, 0, 1, 2};
    assert_int_equal(stream_step(s, 0, &step), ST_OK);
    assert_memory_equal(step.sequences, want, sizeof want);
    stream_step_release(&step);
    stream_close(s);
    dataset_close(d);
}

static void test_weights(void **state) {
    (void)state;
    const int n[] = {8, 10};
    const double weight[] = {2, 0.25}; /* 16 and round(2.5) = 3 sequences an epoch */
    dataset_t *d = make(n, weight);
    for (int shuffle = 0; shuffle < 2; shuffle++) {
        stream_t *s = open_stream(d, (stream_options_t){.seed = 1, .shuffle = shuffle, .global_batch_size = 1});
        assert_int_equal(stream_epoch_sequences(s), 19);
        int total[18] = {0};
        for (int e = 0; e < 10; e++) {
            int epoch[18] = {0};
            for (int i = 0; i < 19; i++) epoch[stream_sequence_at(s, 19 * e + i)]++;
            for (int i = 0; i < 18; i++) {
                if (i < 8) assert_int_equal(epoch[i], 2);
                total[i] += epoch[i];
            }
        }
        for (int i = 8; i < 18; i++) assert_int_equal(total[i], 3); /* 30 draws go through all 10 three times */
        stream_close(s);
    }
    dataset_close(d);
}

static void test_batch_tokens(void **state) {
    (void)state;
    const int n[] = {6, 1};
    const double weight[] = {1, 1};
    dataset_t *d = make(n, weight); /* 2 3 4 5 6 2 | 2 */
    stream_t *s = open_stream(d, (stream_options_t){.global_batch_tokens = 7, .epochs = 1});
    const int64_t counts[] = {3, 2, 2};
    stream_step_t step = {0};
    int64_t place = 0;
    for (int k = 0; k < 3; k++, place += step.n) {
        assert_int_equal(stream_step(s, place, &step), ST_OK);
        assert_int_equal(step.n, counts[k]);
    }
    assert_int_equal(stream_step(s, place, &step), ST_OK);
    assert_int_equal(step.n, 0);
    assert_int_equal(stream_count_steps(s), 3);
    stream_step_release(&step);
    stream_close(s);
    dataset_close(d);
}

static void test_ends(void **state) {
    (void)state;
    const int n[] = {20, 10};
    const double weight[] = {1, 1};
    dataset_t *d = make(n, weight);
    const struct {
        double epochs;
        int64_t end;
    } cases[] = {{1, 30}, {0.1, 3}, {0.11, 4}, {1e-9, 1}, {3, 90}, {1e30, INT64_MAX}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        stream_t *s = open_stream(d, (stream_options_t){.global_batch_size = 1, .epochs = cases[k].epochs});
        assert_int_equal(stream_end(s), cases[k].end);
        stream_close(s);
    }
    stream_t *s;
    assert_int_equal(stream_open(d, &(stream_options_t){.epochs = 1}, &s), ST_USAGE);
    assert_int_equal(stream_open(d, &(stream_options_t){.global_batch_size = 1, .global_batch_tokens = 1}, &s),
                     ST_USAGE);
    assert_int_equal(stream_open(d, &(stream_options_t){.global_batch_size = 1, .epochs = -1}, &s), ST_USAGE);
    dataset_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_permutation),
        cmocka_unit_test(test_permutation_mixes),
        cmocka_unit_test(test_epochs_and_seek),
        cmocka_unit_test(test_file_order),
        cmocka_unit_test(test_weights),
        cmocka_unit_test(test_batch_tokens),
        cmocka_unit_test(test_ends),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
