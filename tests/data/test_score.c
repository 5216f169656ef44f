/* Scores: a number of every example, on its way to the rows that have a loss. A byte is a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static char *dir;

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

static dataset_options_t options(void) {
    return (dataset_options_t){.encoder = bytes_encoder(true),
                               .max_seq_length = 100,
                               .chat_template = CHAT_CHATML,
                               .append_eos = true,
                               .score_field = "toxicity"};
}

/* The scores of sequences 0 .. n, through a batch of all of them. */
static void check(const dataset_t *d, const double *want, int64_t n) {
    batch_t b;
    const int64_t sequences[] = {0, 1, 2, 3, 4, 5, 6, 7};
    assert_int_equal(dataset_sequences(d), n);
    ok(batch_init(&b, 500));
    ok(batch_fill(&b, d, sequences, 0, sequences, n));
    assert_int_equal(b.n_seqs, n);
    assert_true(b.n_loss > 0);
    for (int64_t m = 0; m < b.n_loss; m++) {
        int64_t s = 0;
        while (b.loss_row[m] >= b.cu_seqlens[s + 1]) s++;
        assert_true(b.score[m] == want[s]);
    }
    batch_release(&b);
}

static void test_scores(void **state) {
    (void)state;
    dataset_t *d;
    const char *text = "{\"text\": \"a\", \"toxicity\": 0.1}\n{\"toxicity\": 0, \"text\": \"bcd\"}\n"
                       "{\"text\": \"e\", \"toxicity\": -3}\n{\"text\": \"fgh\", \"toxicity\": 1e300, \"score\": 2}\n";
    ok(text_dataset(dir, &text, 1, options(), &d));
    check(d, (const double[]){0.1, 0, -3, 1e300}, 4);
    dataset_close(d);

    dataset_options_t o = options(); /* pieces of a document and examples that are cut keep it */
    o.max_seq_length = 4;
    text = "{\"text\": \"0123456\", \"toxicity\": 0.5}\n{\"text\": \"0\", \"toxicity\": 0.25}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    check(d, (const double[]){0.5, 0.5, 0.5, 0.25}, 4);
    dataset_close(d);
    o.truncation = TRUNCATE_LEFT;
    text = "{\"prompt\": \"abcde\", \"completion\": \"f\", \"toxicity\": 0.75}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    check(d, (const double[]){0.75}, 1);
    dataset_close(d);

    o = options(); /* not asked for, not read */
    o.score_field = NULL;
    text = "{\"text\": \"a\", \"toxicity\": \"none\"}\n{\"text\": \"bcd\"}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    check(d, (const double[]){0, 0}, 2);
    dataset_close(d);
}

static void refuse(const char *line, const char *want) {
    char text[400];
    const char *all = text;
    dataset_t *d = NULL;
    strcpy(text, "{\"text\": \"a\", \"toxicity\": 1}\n");
    strcat(text, line);
    status_t st = text_dataset(dir, &all, 1, options(), &d);
    if (st == ST_OK) dataset_close(d);
    if (st != ST_INPUT || !strstr(st_message(), "a.jsonl:2: ") || !strstr(st_message(), want))
        fail_msg("%s gives %s, not a.jsonl:2: %s", line, st == ST_OK ? "no error" : st_message(), want);
}

static void test_bad(void **state) {
    (void)state;
    refuse("{\"text\": \"a\"}\n", "missing field 'toxicity'; add it as a number");
    refuse("{\"text\": \"a\", \"toxicity\": null}\n", "field 'toxicity' is null; it must be a number");
    refuse("{\"text\": \"a\", \"toxicity\": \"0.5\"}\n", "field 'toxicity' is a string; it must be a number");
    refuse("{\"text\": \"a\", \"toxicity\": true}\n", "field 'toxicity' is a boolean; it must be a number");
    refuse("{\"text\": \"a\", \"toxicity\": [1]}\n", "field 'toxicity' is an array; it must be a number");
    refuse("{\"text\": \"a\", \"toxicity\": {}}\n", "field 'toxicity' is an object; it must be a number");
    refuse("{\"text\": \"a\", \"toxicity\": 1e999}\n", "invalid JSON");
    refuse("{\"text\": \"a\", \"toxicity\": NaN}\n", "invalid JSON");

    dataset_options_t o = options(); /* a window has parts of several documents */
    dataset_t *d;
    const char *text = "{\"text\": \"a\", \"toxicity\": 1}\n";
    o.packing = PACKING_WRAPPED;
    assert_int_equal(text_dataset(dir, &text, 1, o, &d), ST_USAGE);
    assert_non_null(strstr(st_message(), "'toxicity' judges each on its own; use best-fit"));
}

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

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scores),
        cmocka_unit_test(test_bad),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
