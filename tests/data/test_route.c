/* Routing: of a mixed file, a data set has the examples of its own route alone. A byte is a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "data/stream.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static const char *const routes[] = {"fr", "de", "nl"};
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

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

static dataset_options_t options(const char *route) {
    return (dataset_options_t){.encoder = bytes_encoder(false),
                               .max_seq_length = 6,
                               .append_eos = true,
                               .route_field = "adapter",
                               .route = route,
                               .routes = routes,
                               .n_routes = 3};
}

static void expect(const dataset_t *d, int64_t i, const char *want) {
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    ok(dataset_sequence(d, i, -1, &scratch, &s));
    assert_int_equal(s.ids.len, (int64_t)strlen(want));
    assert_int_equal(s.ids.len, dataset_sequence_tokens(d, i));
    for (int64_t k = 0; k < s.ids.len; k++) assert_int_equal(s.ids.data[k], want[k] == '.' ? BYTE_EOS : want[k]);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
}

/* Examples of `de` are too long, damaged as pairs and without a loss: that is for the data set of `de` to say. */
static const char mixed[] = "{\"prompt\": \"01234567\", \"completion\": \"x\", \"adapter\": \"de\"}\n"
                            "{\"prompt\": \"a\", \"completion\": \"b\", \"adapter\": \"fr\"}\n"
                            "{\"prompt\": 7, \"adapter\": \"de\"}\n"
                            "{\"prompt\": \"\", \"completion\": \"\", \"adapter\": \"de\"}\n"
                            "{\"prompt\": \"cde\", \"completion\": \"f\", \"adapter\": \"fr\"}\n";

static void test_mixed(void **state) {
    (void)state;
    dataset_t *d;
    const char *text = mixed;
    ok(text_dataset(dir, &text, 1, options("fr"), &d));
    assert_int_equal(dataset_examples(d), 5);
    assert_int_equal(dataset_sequences(d), 2);
    assert_int_equal(dataset_max_tokens(d), 5);
    expect(d, 0, "ab.");
    expect(d, 1, "cdef.");
    dataset_close(d);
    assert_int_equal(text_dataset(dir, &text, 1, options("de"), &d), ST_INPUT);
    assert_non_null(strstr(st_message(), "a.jsonl:3: field 'prompt' is a number; it must be a string"));
}

/* The other ranks' items arrive by a sum in which everyone but the owner brings 0. */
static void test_shares(void **state) {
    (void)state;
    char *path = scratch_file(dir, "shared.jsonl", mixed, strlen(mixed));
    const dataset_source_t source = {path, 1};
    dataset_options_t o = options("fr");
    o.sources = &source;
    o.n_sources = 1;
    dataset_t *rank[2];
    int32_t *lengths[2], sum[10];
    int64_t n;
    for (int r = 0; r < 2; r++) {
        ok(dataset_open(&o, &rank[r]));
        ok(dataset_scan(rank[r], r ? 2 : 0, r ? 5 : 2));
        dataset_lengths(rank[r], &lengths[r], &n);
        assert_int_equal(n, 10);
    }
    for (int i = 0; i < 10; i++) sum[i] = i < 4 ? lengths[0][i] + 0 : 0 + lengths[1][i];
    for (int r = 0; r < 2; r++) {
        memcpy(lengths[r], sum, sizeof sum);
        ok(dataset_finish(rank[r]));
        assert_int_equal(dataset_sequences(rank[r]), 2);
        expect(rank[r], 1, "cdef.");
        dataset_close(rank[r]);
    }
    free(path);
}

static void test_cut(void **state) {
    (void)state;
    dataset_t *d;
    dataset_options_t o = options("fr");
    o.max_seq_length = 4;
    o.truncation = TRUNCATE_LEFT;
    const char *text = "{\"prompt\": \"01234567\", \"completion\": \"x\", \"adapter\": \"nl\"}\n"
                       "{\"prompt\": \"abcdef\", \"completion\": \"gh\", \"adapter\": \"fr\"}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    assert_int_equal(dataset_sequences(d), 1);
    expect(d, 0, "fgh.");
    assert_int_equal(dataset_sequence_loss_tokens(d, 0), 3);
    dataset_close(d);
}

/* Pieces of documents, two files of which one has nothing for the route, labels, and the stream over all that. */
static void test_pieces(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    const char *const registers[] = {"low", "high"};
    int field;
    dataset_t *d;
    ok(virtual_add_field(&v, "register", registers, 2, false, &field));
    dataset_options_t o = options("fr");
    o.max_seq_length = 4;
    o.layout = &v;
    const char *text[] = {"{\"text\": \"0123456789\", \"adapter\": \"de\"}\n", /* another route needs no label */
                          "{\"text\": \"0123456789\", \"adapter\": \"nl\"}\n"
                          "{\"text\": \"abcdefg\", \"adapter\": \"fr\", \"register\": \"high\"}\n"
                          "{\"text\": \"x\", \"adapter\": \"de\", \"register\": \"what?\"}\n"
                          "{\"text\": \"hi\", \"adapter\": \"fr\", \"register\": \"low\"}\n",
                          "{\"text\": \"z\", \"adapter\": \"de\"}\n"};
    ok(text_dataset(dir, text, 3, o, &d));
    assert_int_equal(dataset_sequences(d), 3);
    expect(d, 0, "abcd");
    expect(d, 1, "efg.");
    expect(d, 2, "hi.");
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    const int32_t want[] = {1, 1, 0};
    for (int64_t i = 0; i < 3; i++) {
        ok(dataset_sequence(d, i, -1, &scratch, &s));
        assert_int_equal(s.label[field], want[i]);
    }
    sequence_release(&s);
    dataset_scratch_release(&scratch);
    int64_t first, n;
    double weight;
    dataset_source_range(d, 1, &first, &n, &weight);
    assert_int_equal(first, 0);
    assert_int_equal(n, 3);
    dataset_source_range(d, 2, &first, &n, &weight);
    assert_int_equal(n, 0);

    for (int shuffle = 0; shuffle < 2; shuffle++) {
        stream_t *stream;
        int seen[3] = {0};
        ok(stream_open(d, &(stream_options_t){.seed = 3, .shuffle = shuffle, .global_batch_size = 2}, &stream));
        assert_int_equal(stream_epoch_sequences(stream), 3);
        for (int64_t place = 0; place < 9; place++) seen[stream_sequence_at(stream, place)]++;
        for (int i = 0; i < 3; i++) assert_int_equal(seen[i], 3);
        stream_close(stream);
    }
    dataset_close(d);
    virtual_release(&v);
}

static void refuse(const char *text, dataset_options_t o, status_t status, const char *want) {
    dataset_t *d;
    assert_int_equal(text_dataset(dir, &text, 1, o, &d), status);
    if (!strstr(st_message(), want)) fail_msg("'%s' is not in '%s'", want, st_message());
}

static void test_errors(void **state) {
    (void)state;
    const char good[] = "{\"text\": \"ab\", \"adapter\": \"fr\"}\n{\"text\": \"ab\"";
    const struct {
        const char *rest, *want;
    } cases[] = {
        {"}\n", "a.jsonl:2: missing field 'adapter'; add it with one of the values 'fr', 'de', 'nl'"},
        {", \"adapter\": \"es\"}\n",
         "a.jsonl:2: field 'adapter' has the unknown value 'es'; use one of 'fr', 'de', 'nl'"},
        {", \"adapter\": 3}\n", "a.jsonl:2: field 'adapter' is a number; it must be a string"},
        {", \"adapter\": null}\n", "a.jsonl:2: missing field 'adapter'"},
        {", \"adapter\": \"de\"\n", "a.jsonl:2: invalid JSON at column"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        strbuf_t text = {0};
        ok(strbuf_addf(&text, "%s%s", good, cases[i].rest));
        refuse(text.data, options("fr"), ST_INPUT, cases[i].want);
        strbuf_release(&text);
    }
    refuse("{\"text\": \"ab\", \"adapter\": \"fr\"}\n", options("nl"), ST_INPUT,
           "a.jsonl: no example has 'nl' in the field 'adapter'; add some or leave this route out");
    refuse("{\"text\": \"ab\", \"adapter\": \"fr\"}\n", options("es"), ST_USAGE,
           "adapter: the route 'es' is not among the 3 that exist; name one of them");
    dataset_options_t o = options("fr");
    o.packing = PACKING_WRAPPED;
    refuse("{\"text\": \"ab\", \"adapter\": \"fr\"}\n", o, ST_USAGE,
           "data.packing: wrapped joins documents, but the field 'adapter' routes each on its own; use best-fit");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mixed),  cmocka_unit_test(test_shares), cmocka_unit_test(test_cut),
        cmocka_unit_test(test_pieces), cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
