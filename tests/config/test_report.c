/* Progress lines and the HTML report. */
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
#include "train/run/progress.h"
#include "train/run/report.h"
#include "train/run/svg.h"

static void test_duration(void **state) {
    (void)state;
    const struct {
        double seconds;
        const char *text;
    } rows[] = {{0, "0s"},          {59.4, "59s"}, {460, "7m 40s"}, {7380, "2h 03m"},
                {273600, "3d 04h"}, {-1, "?"},     {NAN, "?"},      {INFINITY, "?"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char text[32];
        progress_duration(rows[i].seconds, text, sizeof text);
        assert_string_equal(text, rows[i].text);
    }
}

static void test_progress_lines(void **state) {
    const char *path = scratch_path(state, "log");
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    progress_t p;
    progress_start(&p, f, NULL, 25, 10);
    for (int64_t k = 1; k <= 25; k++) {
        const metrics_step_t s = {k, 100 * k, 2.5, 0.5, 1e-4, 200, 0.5};
        progress_step(&p, &s);
    }
    const metrics_value_t eval[] = {{"eval_loss", 1.25}};
    progress_eval(&p, 25, eval, 1);
    progress_note(&p, "saved %s", "final.h5");
    progress_finish(&p);
    fclose(f);
    char *text = scratch_read(path);
    assert_string_equal(text, "train step 10/25 loss 2.5 grad_norm 0.5 learning_rate 0.0001 tokens 1000 speed 200.0 "
                              "tokens/s step_time 0.5 s eta 8s\n"
                              "train step 20/25 loss 2.5 grad_norm 0.5 learning_rate 0.0001 tokens 2000 speed 200.0 "
                              "tokens/s step_time 0.5 s eta 3s\n"
                              "train step 25/25 loss 2.5 grad_norm 0.5 learning_rate 0.0001 tokens 2500 speed 200.0 "
                              "tokens/s step_time 0.5 s eta 0s\n"
                              "eval step 25/25 eval_loss 1.25\n"
                              "saved final.h5\n");
    free(text);
    progress_start(&p, NULL, NULL, 25, 10); /* other ranks */
    progress_note(&p, "nothing");
    progress_finish(&p);
}

static int count_of(const char *text, const char *word) {
    int n = 0;
    for (; (text = strstr(text, word)) != NULL; text++) n++;
    return n;
}

static void test_report(void **state) {
    char metrics_path[600];
    snprintf(metrics_path, sizeof metrics_path, "%s", scratch_path(state, "metrics.jsonl"));
    metrics_t *m = NULL;
    assert_int_equal(metrics_open(metrics_path, METRICS_NEW, &m), ST_OK);
    for (int64_t k = 1; k <= 5000; k++) {
        const metrics_step_t s = {
            k, 64 * k, k == 700 ? NAN : k == 777 ? 50 : 3 / sqrt((double)k), 1, 1e-4 * (double)(5000 - k), 640, 0.1};
        const metrics_value_t eval[] = {{"eval_loss", fabs((double)k - 3000) / 1000 + 1}};
        assert_int_equal(metrics_write_step(m, &s), ST_OK);
        if (k % 500 == 0) assert_int_equal(metrics_write_eval(m, k, eval, 1), ST_OK);
    }
    metrics_close(m);
    const report_t r = {"runs/<a> & b", metrics_path, "model:\n  path: \"<x>\"\n", "cpu", 2, 4};
    const char *path = scratch_path(state, "report.html");
    assert_int_equal(report_write(path, &r), ST_OK);
    assert_int_equal(report_write(path, &r), ST_OK); /* again, over the first */
    char *page = scratch_read(path);
    assert_non_null(strstr(page, "<h1>runs/&lt;a&gt; &amp; b</h1>"));
    assert_non_null(strstr(page, "  path: &quot;&lt;x&gt;&quot;\n"));
    assert_non_null(strstr(page, "<td>steps</td><td>5000</td>"));
    assert_non_null(strstr(page, "<td>tokens</td><td>320000</td>"));
    assert_non_null(strstr(page, "<td>best eval loss</td><td>1.0000 (step 3000)</td>"));
    assert_non_null(strstr(page, "<td>mean speed</td><td>640 tokens/s</td>"));
    assert_non_null(strstr(page, "<td>time in steps</td><td>8m 20s</td>"));
    assert_non_null(strstr(page, "<td>ranks</td><td>2, 4 threads each</td>"));
    assert_int_equal(count_of(page, "<svg "), 4);
    assert_int_equal(count_of(page, "</svg>"), 4);
    assert_int_equal(count_of(page, "<circle "), 10); /* evaluations are few enough for marks */
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, ">-0<"));
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "<script"));
    assert_true(strlen(page) < 100000); /* 5000 steps are thinned */
    free(page);
    const report_t lost = {"x", "no/such/metrics.jsonl", "", "cpu", 1, 1};
    assert_int_equal(report_write(path, &lost), ST_INPUT);
}

/* The spike survives thinning: some point lies at the top of the drawing area; a gap starts a new stroke. */
static void test_chart(void **state) {
    (void)state;
    metrics_point_t points[3000];
    for (int i = 0; i < 3000; i++) points[i] = (metrics_point_t){i, i == 1234 ? 9.0 : i == 2000 ? NAN : 1.0};
    const metrics_series_t s = {points, 3000, 3000};
    const svg_curve_t curve = {"loss", &s};
    strbuf_t out = {0};
    assert_int_equal(svg_chart("loss", &curve, 1, &out), ST_OK);
    const char *path = strstr(out.data, "<path class=\"curve c0\" d=\"M");
    assert_non_null(path);
    assert_non_null(strstr(path, " 36.5")); /* 4 % below the top edge at 30 of a range of 176 */
    int strokes = 0;
    for (const char *c = path + 10; *c && *c != '/'; c++) strokes += *c == 'M';
    assert_int_equal(strokes, 2);
    strbuf_clear(&out);
    const metrics_series_t none = {0};
    const svg_curve_t empty = {"loss", &none};
    assert_int_equal(svg_chart("a<b", &empty, 1, &out), ST_OK);
    assert_string_equal(out.data, "<p>a&lt;b: no values.</p>\n");
    strbuf_clear(&out);
    const metrics_series_t one = {points, 1, 1};
    const svg_curve_t single = {"loss", &one};
    assert_int_equal(svg_chart("one", &single, 1, &out), ST_OK);
    assert_null(strstr(out.data, "nan"));
    assert_null(strstr(out.data, "inf"));
    strbuf_release(&out);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_duration),
        cmocka_unit_test_setup_teardown(test_progress_lines, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(test_report, scratch_open, scratch_close),
        cmocka_unit_test(test_chart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
