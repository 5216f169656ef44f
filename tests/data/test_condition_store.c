/* Token stores as training data: the same sequences as the lines they were built from, and mistakes by document. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/dataset.h"
#include "data/store_build.h"
#include "data/token_store_write.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_files.h"

static char *dir, *lines, *store;

static int setup(void **state) {
    (void)state;
    dir = scratch_create();
    lines = scratch_path(dir, "a.jsonl");
    store = scratch_path(dir, "a.h5");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(dir);
    free(lines);
    free(store);
    return 0;
}

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

/* A tokenizer whose stores carry this fingerprint. */
static encoder_t encoder(void) {
    encoder_t e = bytes_encoder(true);
    e.fingerprint = 77;
    e.n_ids = (BYTE_EOT + 1);
    return e;
}

static void build_store(const char *text) {
    const char *paths[] = {lines};
    free(scratch_file(dir, "a.jsonl", text, strlen(text)));
    const store_build_options_t o = {.paths = paths,
                                     .n_paths = 1,
                                     .out = store,
                                     .encoder = encoder(),
                                     .vocabulary = (BYTE_EOT + 1),
                                     .tokenizer_fingerprint = 77,
                                     .tokenizer = "bytes",
                                     .text_field = "text"};
    store_build_t *b;
    ok(store_build_open(&o, &b));
    ok(store_build_prepare(b));
    for (int64_t i = 0; i < store_build_shards(b); i++) ok(store_build_shard(b, i));
    ok(store_build_join(b));
    store_build_clean(b);
    store_build_close(b);
}

static status_t open_path(const char *path, dataset_options_t o, dataset_t **out) {
    const dataset_source_t source = {path, 1};
    dataset_t *d = NULL;
    o.sources = &source;
    o.n_sources = 1;
    status_t st = dataset_open(&o, &d);
    if (st == ST_OK) st = dataset_scan(d, 0, dataset_examples(d));
    if (st == ST_OK) st = dataset_finish(d);
    if (st != ST_OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

static const condition_slot_t slots[] = {
    {.kind = SLOT_METADATA, .text = "<{u}>", .missing = MISSING_SKIP, .dropout = 0.5},
    {.kind = SLOT_CONTROL, .choose = {"s", false, 0.5}, .then = "+", .otherwise = "-", .loss = true},
    {.kind = SLOT_DOCUMENT, .text = "{text}", .loss = true},
    {.kind = SLOT_SUFFIX, .text = "[{s}]"}};

static const char corpus[] =
    "{\"text\": \"the first document\", \"u\": \"en.x\", \"s\": 0.25, \"k\": \"a\"}\n"
    "{\"text\": \"b\", \"s\": 0.1, \"k\": \"b\"}\n"
    "{\"s\": 3, \"u\": \"\xc3\xa4\", \"text\": \"a third one, somewhat longer\", \"k\": \"a\"}\n"
    "{\"text\": \"x</s>y\", \"u\": \"\", \"s\": 0.30000000000000004, \"k\": \"b\"}\n";

static void compare(dataset_options_t o) {
    dataset_t *a, *b;
    dataset_scratch_t scratch[2] = {{.cached = 0}};
    sequence_t s[2] = {{.n_prefix = 0}};
    ok(open_path(lines, o, &a));
    ok(open_path(store, o, &b));
    assert_int_equal(dataset_examples(a), dataset_examples(b));
    assert_int_equal(dataset_sequences(a), dataset_sequences(b));
    assert_int_equal(dataset_max_tokens(a), dataset_max_tokens(b));
    for (int64_t i = 0; i < dataset_sequences(a); i++) {
        for (int64_t place = -1; place < 8; place++) {
            ok(dataset_sequence(a, i, place, &scratch[0], &s[0]));
            ok(dataset_sequence(b, i, place, &scratch[1], &s[1]));
            assert_int_equal(s[0].ids.len, s[1].ids.len);
            assert_memory_equal(s[0].ids.data, s[1].ids.data, (size_t)s[0].ids.len * sizeof(int32_t));
            assert_memory_equal(s[0].weight, s[1].weight, (size_t)s[0].ids.len * sizeof(float));
            assert_memory_equal(s[0].label, s[1].label, sizeof s[0].label);
            assert_int_equal(s[0].n_prompt, s[1].n_prompt);
        }
        assert_int_equal(dataset_sequence_tokens(a, i), dataset_sequence_tokens(b, i));
        assert_int_equal(dataset_sequence_loss_tokens(a, i), dataset_sequence_loss_tokens(b, i));
    }
    for (int k = 0; k < 2; k++) {
        dataset_scratch_release(&scratch[k]);
        sequence_release(&s[k]);
    }
    dataset_close(a);
    dataset_close(b);
}

/* With every setting that reads fields: templates, labels, routes and filters; pieces and windows. */
static void test_same(void **state) {
    (void)state;
    const char *const words[] = {"a", "b"};
    condition_t *c;
    virtual_layout_t v = {0};
    int field;
    ok(condition_open(slots, 4, &(condition_use_t){.seed = 3}, &c));
    ok(virtual_add_field(&v, "k", words, 2, false, &field));
    build_store(corpus);
    for (int how = 0; how < 64; how++) {
        dataset_options_t o = {.encoder = encoder(), .max_seq_length = how & 1 ? 40 : 36, .append_eos = how & 2};
        if (how & 4) o.condition = c;
        if (how & 8) o.layout = &v;
        if (how & 16) o.filter = (threshold_t){.field = "s", .limit = 0.3};
        if (how & 32) o.route_field = "k", o.route = "b", o.routes = words, o.n_routes = 2;
        compare(o);
        if (how & (4 | 8 | 32)) continue;
        o.packing = PACKING_WRAPPED;
        o.max_seq_length = 7;
        compare(o);
        o.encoder.n_prefix = 0;
        compare(o);
    }
    virtual_release(&v);
    condition_close(c);
}

static void refuse(const char *path, dataset_options_t o, status_t status, const char *want) {
    dataset_t *d;
    assert_int_equal(open_path(path, o, &d), status);
    if (!strstr(st_message(), want)) fail_msg("'%s' is not in '%s'", want, st_message());
}

static void test_refused(void **state) {
    (void)state;
    dataset_options_t o = {.encoder = encoder(), .max_seq_length = 40, .append_eos = true};
    build_store(corpus);
    o.encoder.fingerprint++;
    refuse(store, o, ST_INPUT, "a.h5: was made with another tokenizer than the model's, that of bytes; build it again");
    o.encoder.fingerprint--;
    o.format = FORMAT_CHAT;
    refuse(store, o, ST_USAGE, "a.h5: a token store has documents, but data.format is chat; set it to text or auto");
    o.format = FORMAT_AUTO;
    o.route_field = "none", o.route = "a", o.routes = (const char *const[]){"a"}, o.n_routes = 1;
    refuse(store, o, ST_INPUT, "a.h5:document 0: missing field 'none'");
    o.route_field = NULL;
    o.filter = (threshold_t){.field = "u", .limit = 1};
    refuse(store, o, ST_INPUT, "a.h5:document 0: field 'u' is a string; the template needs a number");
    o.filter.field = NULL;
    o.encoder.n_ids = 'x'; /* as if the vocabulary were smaller: checksums cannot tell */
    dataset_t *d;
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    ok(open_path(store, o, &d));
    assert_int_equal(dataset_sequence(d, 3, -1, &scratch, &s), ST_INPUT);
    assert_non_null(
        strstr(st_message(), "a.h5:document 3: token 120 is not in the vocabulary of 120; build the store"));
    dataset_scratch_release(&scratch);
    sequence_release(&s);
    dataset_close(d);
}

/* Truncated and changed files: refused when opened or when the damaged block is read, always as input errors. */
static void test_damaged(void **state) {
    (void)state;
    condition_t *c;
    ok(condition_open(slots, 4, &(condition_use_t){.seed = 3}, &c));
    dataset_options_t o = {.encoder = encoder(), .max_seq_length = 40, .append_eos = true, .condition = c};
    build_store(corpus);
    FILE *f = fopen(store, "rb");
    assert_non_null(f);
    static char bytes[1 << 18];
    size_t n = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    assert_in_range(n, 1, sizeof bytes - 1);
    int refused = 0;
    for (size_t cut = 1; cut < n; cut += n / 40) {
        dataset_t *d;
        free(scratch_file(dir, "cut.h5", bytes, n - cut));
        char *path = scratch_path(dir, "cut.h5");
        refuse(path, o, ST_INPUT, "cut.h5");
        bytes[cut] ^= 1;
        free(scratch_file(dir, "cut.h5", bytes, n));
        bytes[cut] ^= 1;
        status_t st = open_path(path, o, &d);
        assert_true(st == ST_OK || st == ST_INPUT);
        refused += st != ST_OK;
        if (st == ST_OK) { /* a block of tokens that nothing has read, then */
            dataset_scratch_t scratch = {0};
            sequence_t s = {0};
            for (int64_t i = 0; i < dataset_sequences(d) && st == ST_OK; i++)
                st = dataset_sequence(d, i, -1, &scratch, &s);
            assert_int_equal(st, ST_INPUT);
            dataset_scratch_release(&scratch);
            sequence_release(&s);
            dataset_close(d);
        }
        free(path);
    }
    assert_true(refused > 0);
    condition_close(c);
}

enum { MANY = 1000001 };

/* A million documents of one token, the last of which has this metadata. */
static void write_many(const char *json, const char *last) {
    size_t n = strlen(json), m = strlen(last);
    const token_store_info_t info = {.documents = MANY,
                                     .tokens = MANY,
                                     .metadata_bytes = (int64_t)((MANY - 1) * n + m),
                                     .token_bytes = 2,
                                     .tokenizer_fingerprint = 77,
                                     .tokenizer = "bytes",
                                     .text_field = "text",
                                     .fields = "{}"};
    const int32_t id = 'a';
    token_store_writer_t *w;
    ok(token_store_create(store, &info, &w));
    for (int i = 0; i < MANY; i++)
        ok(i + 1 < MANY ? token_store_append(w, &id, 1, json, n) : token_store_append(w, &id, 1, last, m));
    ok(token_store_finish(w));
}

static void test_million(void **state) {
    (void)state;
    const char *const texts[] = {"{u}", "{v}"};
    const char *const want[] = {"a.h5:document 1000000: missing field 'u', which the template needs",
                                "a.h5:document 1000000: field 'v' is an array; the template needs a string"};
    write_many("{\"u\":\"x\",\"v\":1}", "{\"v\":[7]}");
    for (int i = 0; i < 2; i++) {
        const condition_slot_t slot[] = {{.kind = SLOT_METADATA, .text = texts[i]}, slots[2]};
        condition_t *c;
        ok(condition_open(slot, 2, &(condition_use_t){.seed = 3}, &c));
        dataset_options_t o = {.encoder = encoder(), .max_seq_length = 8, .append_eos = true, .condition = c};
        const dataset_source_t source = {store, 1};
        o.sources = &source;
        o.n_sources = 1;
        dataset_t *d;
        ok(dataset_open(&o, &d));
        ok(dataset_scan(d, 0, 1000)); /* shares of two ranks out of many */
        assert_int_equal(dataset_scan(d, MANY - 50000, MANY), ST_INPUT);
        if (!strstr(st_message(), want[i])) fail_msg("'%s' is not in '%s'", want[i], st_message());
        dataset_close(d);
        condition_close(c);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_million),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
