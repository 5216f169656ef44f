/* Conditional pretraining: exact ids and weights of documents with slots around them. A byte is a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "data/condition.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_condition.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static void refuse(const char *text, dataset_options_t o, status_t status, const char *want) {
    dataset_t *d = NULL;
    assert_int_equal(text_dataset(condition_dir, &text, 1, o, &d), status);
    if (!strstr(st_message(), want)) fail_msg("'%s' is not in '%s'", want, st_message());
}

/* Every piece carries the slots; the first token of a body is predicted from them. */
static void test_pieces(void **state) {
    (void)state;
    const condition_slot_t slots[] = {url, document, end};
    const char *text = "{\"text\": \"abcdef\", \"u\": \"x\", \"n\": 7}\n{\"text\": \"ab\", \"u\": \"\", \"n\": true}\n";
    condition_t *c = condition_template(slots, 2, 1);
    dataset_t *d = condition_dataset(text, condition_options(c, true));
    assert_int_equal(dataset_sequences(d), 3);
    expect_sequence(d, 0, "^<x>abcd", "00001111");
    expect_sequence(d, 1, "^<x>ef.", "0000111");
    expect_sequence(d, 2, "^<>ab.", "000111");
    dataset_close(d);
    d = condition_dataset(text, condition_options(c, false)); /* without BOS nothing predicts the first token of all */
    assert_int_equal(dataset_sequences(d), 3);
    expect_sequence(d, 0, "<x>abcde", "00011111");
    expect_sequence(d, 1, "<x>f.", "00011");
    dataset_close(d);
    condition_close(c);

    c = condition_template(slots, 3, 1);
    dataset_options_t o = condition_options(c, true);
    o.max_seq_length = 10;
    d = condition_dataset(text, o);
    expect_sequence(d, 0, "^<x>abc[7]", "0000111111");
    expect_sequence(d, 1, "^<x>def[7]", "0000111111");
    expect_sequence(d, 2, "^<x>.[7]", "00001111");
    expect_sequence(d, 3, "^<>a[true]", "0001111111");
    expect_sequence(d, 4, "^<>b[true]", "0001111111");
    expect_sequence(d, 5, "^<>.[true]", "0001111111");
    assert_int_equal(dataset_max_tokens(d), 10);
    dataset_close(d);
    condition_close(c);
}

/* No BOS and nothing in front: the first token of every piece has no loss, and a piece of one token is none, unless
 * what stands behind it is predicted. */
static void test_bare(void **state) {
    (void)state;
    condition_slot_t slots[] = {document, end};
    const char *text = "{\"text\": \"abcdef\", \"n\": 7}\n";
    condition_t *c = condition_template(slots, 2, 1);
    dataset_options_t o = condition_options(c, false);
    dataset_t *d = condition_dataset(text, o);
    assert_int_equal(dataset_sequences(d), 2);
    expect_sequence(d, 0, "abcde[7]", "01111111");
    expect_sequence(d, 1, "f.[7]", "01111");
    dataset_close(d);
    o.max_seq_length = 6;
    o.append_eos = false;
    d = condition_dataset("{\"text\": \"abcd\", \"n\": 7}\n", o);
    expect_sequence(d, 1, "d[7]", "0111");
    dataset_close(d);
    condition_close(c);

    slots[1].loss = false;
    c = condition_template(slots, 2, 1);
    o.condition = c;
    d = condition_dataset("{\"text\": \"abcd\", \"n\": 7}\n", o);
    assert_int_equal(dataset_sequences(d), 1);
    expect_sequence(d, 0, "abc[7]", "011000");
    dataset_close(d);
    o.max_seq_length = 4;
    refuse("{\"text\": \"abcd\", \"n\": 7}\n", o, ST_INPUT,
           "a.jsonl:1: the conditioning takes 3 tokens and leaves no room for the document within max_seq_length 4");
    condition_close(c);
}

static void test_losses(void **state) {
    (void)state;
    condition_slot_t slots[] = {url, document, end};
    const char *text = "{\"text\": \"abc\", \"u\": \"x\", \"n\": 7}\n";
    slots[0].loss = true; /* PHF: control tokens are predicted, too */
    slots[1].loss = false;
    condition_t *c = condition_template(slots, 3, 1);
    dataset_options_t o = condition_options(c, true);
    o.max_seq_length = 20;
    dataset_t *d = condition_dataset(text, o);
    expect_sequence(d, 0, "^<x>abc.[7]", "01110000111");
    dataset_close(d);
    o.encoder = bytes_encoder(false);
    d = condition_dataset(text, o);
    expect_sequence(d, 0, "<x>abc.[7]", "0110000111");
    dataset_close(d);
    condition_close(c);
    condition_ok(
        condition_open(slots, 3, &(condition_use_t){.document_only = true}, &c)); /* losses that can be compared */
    o.condition = c;
    d = condition_dataset(text, o);
    expect_sequence(d, 0, "<x>abc.[7]", "0001111000");
    dataset_close(d);
    condition_close(c);
}

static void test_choose(void **state) {
    (void)state;
    condition_slot_t slots[] = {{.kind = SLOT_CONTROL,
                                 .choose = {.field = "s", .limit = 0.5},
                                 .then = "<|im_start|>",
                                 .otherwise = "<|im_end|>"},
                                document};
    const char *text = "{\"text\": \"a\", \"s\": 0.25}\n{\"text\": \"b\", \"s\": 0.5}\n{\"text\": \"c\", \"s\": 1}\n";
    const int32_t at_most[] = {BYTE_IM_START, BYTE_IM_START, BYTE_IM_END},
                  at_least[] = {BYTE_IM_END, BYTE_IM_START, BYTE_IM_START};
    for (int least = 0; least < 2; least++) {
        slots[0].choose.at_least = least;
        condition_t *c = condition_template(slots, 2, 1);
        dataset_t *d = condition_dataset(text, condition_options(c, true));
        dataset_scratch_t scratch = {0};
        sequence_t s = {0};
        for (int i = 0; i < 3; i++) {
            condition_ok(dataset_sequence(d, i, 0, &scratch, &s));
            assert_int_equal(s.ids.len, 4);
            assert_int_equal(s.ids.data[1], least ? at_least[i] : at_most[i]);
        }
        sequence_release(&s);
        dataset_scratch_release(&scratch);
        dataset_close(d);
        condition_close(c);
    }
    slots[0].then = "+";
    slots[0].otherwise = NULL; /* nothing stands there then */
    condition_t *c = condition_template(slots, 2, 1);
    dataset_t *d = condition_dataset(text, condition_options(c, true));
    expect_sequence(d, 0, "^a.", "011");
    expect_sequence(d, 2, "^+c.", "0011");
    dataset_close(d);
    refuse("{\"text\": \"a\", \"s\": 1}\n{\"text\": \"a\", \"s\": \"1\"}\n", condition_options(c, true), ST_INPUT,
           "a.jsonl:2: field 's' is a string; the template needs a number");
    refuse("{\"text\": \"a\"}\n", condition_options(c, true), ST_INPUT,
           "a.jsonl:1: missing field 's', which the template needs");
    condition_close(c);
}

static void test_missing(void **state) {
    (void)state;
    condition_slot_t slots[] = {url, document};
    const char *bad[][2] = {
        {"{\"text\": \"a\"}", "missing field 'u', which the template needs; add it, or set 'missing: skip'"},
        {"{\"text\": \"a\", \"u\": null}", "missing field 'u'"},
        {"{\"text\": \"a\", \"u\": [1]}", "field 'u' is an array; the template needs a string, a number or a boolean"},
        {"{\"text\": \"a\", \"u\": {}}", "field 'u' is an object"},
        {"{\"text\": \"\", \"u\": \"x\"}", "the document is empty"},
        {"{\"text\": 4, \"u\": \"x\"}", "field 'text' is a number"},
        {"{\"u\": \"x\"}", "missing field 'text'"},
        {"{\"text\": \"a\", \"u\": \"123456\"}", "the conditioning takes 8 tokens and leaves no room"},
        {"{\"prompt\": \"a\", \"completion\": \"b\", \"u\": \"x\"}", "missing field 'text'"},
        {"[1]", "expected a JSON object"},
        {"{\"text\": \"a\", \"u\": \"\\ud800\"}", "invalid JSON"},
    };
    condition_t *c = condition_template(slots, 2, 1);
    dataset_options_t o = condition_options(c, true);
    o.format = FORMAT_TEXT;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[256], want[256];
        snprintf(text, sizeof text, "{\"text\": \"a\", \"u\": \"x\"}\n\n%s\n", bad[i][0]);
        snprintf(want, sizeof want, "a.jsonl:3: %s", bad[i][1]);
        refuse(text, o, ST_INPUT, want);
    }
    condition_close(c);
    slots[0].missing = MISSING_SKIP;
    c = condition_template(slots, 2, 1);
    dataset_t *d =
        condition_dataset("{\"text\": \"a\"}\n{\"text\": \"b\", \"u\": \"y\"}\n{\"text\": \"c\", \"u\": null}\n",
                          condition_options(c, true));
    expect_sequence(d, 0, "^a.", "011");
    expect_sequence(d, 1, "^<y>b.", "000011");
    expect_sequence(d, 2, "^c.", "011");
    dataset_close(d);
    refuse("{\"text\": \"a\", \"u\": [1]}", condition_options(c, true), ST_INPUT, "a.jsonl:1: field 'u' is an array");
    condition_close(c);
    slots[0].loss = true;
    slots[1].loss = false;
    c = condition_template(slots, 2, 1);
    refuse("{\"text\": \"a\"}\n", condition_options(c, true), ST_INPUT,
           "a.jsonl:1: the example has no token with a loss");
    condition_close(c);
}

/* Which slots are left out is a function of (seed, slot, place): not of packing, order or rank. */
static void test_dropout(void **state) {
    (void)state;
    enum { PLACES = 2000 };
    condition_slot_t slots[] = {url, {.kind = SLOT_CONTROL, .text = "!"}, document};
    slots[0].dropout = 0.25;
    slots[1].dropout = 0.5;
    condition_t *c = condition_template(slots, 3, 7), *other = condition_template(slots, 3, 8);
    int dropped[2] = {0}, both = 0, differ = 0;
    for (int64_t p = 0; p < PLACES; p++) {
        bool a = condition_drops(c, 0, p), b = condition_drops(c, 1, p);
        dropped[0] += a;
        dropped[1] += b;
        both += a && b;
        differ += a != condition_drops(other, 0, p);
        assert_false(condition_drops(c, 2, p));
        assert_false(condition_drops(c, 0, -1));
    }
    /* five standard deviations: sqrt(2000 * 0.25 * 0.75) = 19.4, sqrt(2000 * 0.5 * 0.5) = 22.4, ... */
    assert_in_range(dropped[0], 500 - 97, 500 + 97);
    assert_in_range(dropped[1], 1000 - 112, 1000 + 112);
    assert_in_range(both, 250 - 74, 250 + 74);
    assert_in_range(differ, 750 - 109, 750 + 109);

    dataset_t *d = condition_dataset("{\"text\": \"ab\", \"u\": \"x\"}\n", condition_options(c, true));
    const char *want[2][2] = {{"^<x>!ab.", "^<x>ab."}, {"^!ab.", "^ab."}};
    const char *weights[2][2] = {{"00000111", "0000111"}, {"00111", "0111"}};
    for (int64_t p = 0; p < 40; p++) {
        int a = condition_drops(c, 0, p), b = condition_drops(c, 1, p);
        expect_sequence_at(d, 0, p, want[a][b], weights[a][b]);
    }
    expect_sequence(d, 0, want[0][0], weights[0][0]); /* lengths are those with all slots */

    /* micro-batches of a step, in any order, have the sequences of their places */
    batch_t batch;
    condition_ok(batch_init(&batch, 64));
    const int64_t sequences[] = {0, 0, 0, 0}, order[] = {2, 0, 3, 1};
    for (int64_t first = 0; first < 20; first += 4) {
        condition_ok(batch_fill(&batch, d, sequences, first, order, 4));
        for (int i = 0; i < 4; i++) {
            int a = condition_drops(c, 0, first + order[i]), b = condition_drops(c, 1, first + order[i]);
            assert_int_equal(batch.cu_seqlens[i + 1] - batch.cu_seqlens[i], strlen(want[a][b]));
        }
    }
    batch_release(&batch);
    dataset_close(d);
    condition_close(c);
    condition_close(other);

    slots[0].dropout = 1;
    c = condition_template(slots, 3, 7);
    for (int64_t p = 0; p < PLACES; p++) assert_true(condition_drops(c, 0, p));
    condition_close(c);
}

static void test_filter(void **state) {
    (void)state;
    const char *text = "{\"text\": \"a\", \"s\": 0}\n{\"text\": \"b\", \"s\": 0.5}\n{\"text\": \"c\", \"s\": 2}\n";
    dataset_options_t o = condition_options(NULL, true);
    o.filter = (threshold_t){.field = "s", .limit = 0.5};
    dataset_t *d = condition_dataset(text, o);
    assert_int_equal(dataset_sequences(d), 2);
    expect_sequence(d, 1, "^b.", "011");
    dataset_close(d);
    o.filter.at_least = true;
    d = condition_dataset(text, o);
    assert_int_equal(dataset_sequences(d), 2);
    expect_sequence(d, 0, "^b.", "011");
    expect_sequence(d, 1, "^c.", "011");
    dataset_close(d);
    o.packing = PACKING_WRAPPED; /* joined documents are those within it */
    d = condition_dataset(text, o);
    assert_int_equal(dataset_sequences(d), 1);
    expect_sequence(d, 0, "^b.c.", "01111");
    dataset_close(d);
    o.packing = PACKING_BEST_FIT;
    o.filter.limit = 3;
    refuse(text, o, ST_INPUT, "a.jsonl: no example has a 's' of at least 3; change data.filter");
    refuse("{\"text\": \"a\", \"s\": 4}\n{\"text\": \"b\"}\n", o, ST_INPUT,
           "a.jsonl:2: missing field 's', which data.filter needs; add it as a number");
    refuse("{\"text\": \"a\", \"s\": \"4\"}\n", o, ST_INPUT, "a.jsonl:1: field 's' is a string");
}

static void test_settings(void **state) {
    (void)state;
    const condition_slot_t slots[] = {url, document};
    condition_t *c = condition_template(slots, 2, 1);
    dataset_options_t o = condition_options(c, true);
    refuse("{\"prompt\": \"a\", \"completion\": \"b\", \"u\": \"x\"}\n", o, ST_USAGE,
           "a.jsonl: conditioning is for documents, but the format is prompt-completion");
    o.packing = PACKING_WRAPPED;
    refuse("{\"text\": \"a\", \"u\": \"x\"}\n", o, ST_USAGE,
           "data.packing: wrapped joins documents, but conditioning puts text around each of them; use best-fit");
    condition_close(c);
}

/* Lengths arrive from the other ranks by a sum in which everyone but the owner brings 0. */
static void test_shares(void **state) {
    (void)state;
    const condition_slot_t slots[] = {url, document, end};
    const char *text = "{\"text\": \"abcdef\", \"u\": \"x\", \"n\": 7}\n{\"text\": \"ab\", \"u\": \"\", \"n\": 1}\n";
    condition_t *c = condition_template(slots, 3, 1);
    char *path = scratch_file(condition_dir, "shared.jsonl", text, strlen(text));
    const dataset_source_t source = {path, 1};
    dataset_options_t o = condition_options(c, true);
    o.sources = &source;
    o.n_sources = 1;
    dataset_t *d;
    int32_t *length, first[4], sum[8];
    int64_t n;
    condition_ok(dataset_open(&o, &d));
    condition_ok(dataset_scan(d, 0, 1));
    dataset_lengths(d, &length, &n);
    assert_int_equal(n, 8);
    memcpy(first, length, sizeof first);
    for (int i = 4; i < 8; i++) assert_int_equal(length[i], -1);
    dataset_close(d);
    condition_ok(dataset_open(&o, &d));
    condition_ok(dataset_scan(d, 1, 2));
    dataset_lengths(d, &length, &n);
    for (int i = 0; i < 8; i++) sum[i] = i < 4 ? first[i] : length[i];
    memcpy(length, sum, sizeof sum);
    condition_ok(dataset_finish(d));
    expect_sequence(d, 0, "^<x>a[7]", "00001111");
    dataset_close(d);
    free(path);
    condition_close(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_bare),     cmocka_unit_test(test_losses),
        cmocka_unit_test(test_choose), cmocka_unit_test(test_missing),  cmocka_unit_test(test_dropout),
        cmocka_unit_test(test_filter), cmocka_unit_test(test_settings), cmocka_unit_test(test_shares),
    };
    return cmocka_run_group_tests(tests, condition_setup, condition_teardown);
}
