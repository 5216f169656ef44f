/* metrics.jsonl: exact lines; a resume continues the file and never doubles a step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common_scratch.h"

#include "train/run/metrics.h"

static const metrics_step_t sample = {1, 4096, 2.5, 0.75, 2e-4, 1000.0 / 3, 0.5};

static void write_steps(const char *path, int64_t keep_to, int64_t from, int64_t to) {
    metrics_t *m = NULL;
    assert_int_equal(metrics_open(path, keep_to, &m), ST_OK);
    for (int64_t k = from; k <= to; k++) {
        metrics_step_t s = sample;
        s.step = k;
        s.tokens = 4096 * k;
        s.loss = 3.0 / (double)k;
        assert_int_equal(metrics_write_step(m, &s), ST_OK);
        const metrics_value_t eval[] = {{"eval_loss", (double)k / 7}, {"eval_perplexity", exp((double)k / 7)}};
        if (k % 2 == 0) assert_int_equal(metrics_write_eval(m, k, eval, 2), ST_OK);
    }
    assert_int_equal(metrics_sync(m), ST_OK);
    metrics_close(m);
}

static void test_lines(void **state) {
    const char *path = scratch_path(state, "metrics.jsonl");
    metrics_t *m = NULL;
    assert_int_equal(metrics_open(path, METRICS_NEW, &m), ST_OK);
    assert_int_equal(metrics_write_step(m, &sample), ST_OK);
    const metrics_value_t eval[] = {{"eval_loss", 2.25}, {"eval_exact_match", NAN}};
    assert_int_equal(metrics_write_eval(m, 1, eval, 2), ST_OK);
    metrics_close(m);
    char *text = scratch_read(path);
    assert_string_equal(text, "{\"step\":1,\"tokens\":4096,\"loss\":2.5,\"grad_norm\":0.75,\"learning_rate\":0.0002,"
                              "\"tokens_per_second\":333.333333,\"step_seconds\":0.5}\n"
                              "{\"step\":1,\"eval_loss\":2.25,\"eval_exact_match\":null}\n");
    free(text);
}

/* Written to step 7 and resumed from step k, for every k: the same bytes as without the interruption. */
static void test_resume(void **state) {
    const char *path = scratch_path(state, "metrics.jsonl");
    write_steps(path, METRICS_NEW, 1, 9);
    char *whole = scratch_read(path);
    for (int64_t k = 0; k <= 7; k++) {
        write_steps(path, METRICS_NEW, 1, 7);
        write_steps(path, k, k + 1, 9);
        char *text = scratch_read(path);
        assert_string_equal(text, whole);
        free(text);
    }
    /* a new run empties the file */
    write_steps(path, METRICS_NEW, 1, 1);
    char *text = scratch_read(path);
    assert_int_equal(strchr(text, '\n') - text + 1, strlen(text));
    free(text);
    free(whole);
}

static void test_torn_and_damaged(void **state) {
    const char *path = scratch_path(state, "metrics.jsonl");
    metrics_t *m = NULL;
    const char *torn[] = {"{\"step\":1}\n{\"step\":2}\n{\"step\":3,\"lo", "{\"step\":1}\n{\"step\":2}\nnonsense\n",
                          "{\"step\":1}\n{\"step\":2}\n{\"step\":3}"};
    for (size_t i = 0; i < 3; i++) {
        scratch_write(path, torn[i]);
        assert_int_equal(metrics_open(path, 5, &m), ST_OK);
        metrics_close(m);
        char *text = scratch_read(path);
        assert_string_equal(text, "{\"step\":1}\n{\"step\":2}\n");
        free(text);
    }
    static const char damaged[] = "{\"step\":1}\nnonsense\n{\"step\":3}\n";
    scratch_write(path, damaged);
    assert_int_equal(metrics_open(path, 5, &m), ST_INPUT);
    char expected[1200];
    snprintf(expected, sizeof expected,
             "%s:2: not a line of metrics; move the file away to continue without its history", path);
    assert_string_equal(st_message(), expected);
    char *text = scratch_read(path);
    assert_string_equal(text, damaged);
    free(text);
    assert_int_equal(metrics_open("no/such/dir/metrics.jsonl", METRICS_NEW, &m), ST_IO);
}

static void test_read(void **state) {
    const char *path = scratch_path(state, "metrics.jsonl");
    const char *names[] = {"loss", "eval_loss"};
    metrics_series_t s[2] = {0};
    scratch_write(path,
                  "{\"step\":1,\"loss\":2.5}\nnonsense\n{\"step\":2,\"loss\":null}\n{\"step\":2,\"eval_loss\":1}\n");
    assert_int_equal(metrics_read(path, names, 2, s), ST_OK);
    assert_int_equal(s[0].count, 2);
    assert_true(s[0].points[0].value == 2.5 && s[0].points[0].step == 1);
    assert_true(isnan(s[0].points[1].value));
    assert_int_equal(s[1].count, 1);
    assert_true(s[1].points[0].value == 1 && s[1].points[0].step == 2);
    metrics_series_release(&s[0]);
    metrics_series_release(&s[1]);
    assert_int_equal(metrics_read("no/such/file", names, 2, s), ST_INPUT);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_lines, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(test_resume, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(test_torn_and_damaged, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(test_read, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
