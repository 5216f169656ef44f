/* Building token stores: what a line becomes, what is refused and where, shards that are taken over and that are not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/store_build_impl.h"
#include "data/token_store.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_files.h"

static char *dir, *input, *output;

static int setup(void **state) {
    (void)state;
    dir = scratch_create();
    input = scratch_path(dir, "in.jsonl");
    output = scratch_path(dir, "out.h5");
    return 0;
}

static int teardown(void **state) {
    (void)state;
    scratch_remove(dir);
    free(input);
    free(output);
    return 0;
}

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != ST_OK) fail_msg("%s", st_message());                                                             \
    } while (0)

static store_build_t *open_build(uint64_t tokenizer, int32_t vocabulary) {
    static const char *paths[1];
    paths[0] = input;
    const store_build_options_t o = {.paths = paths,
                                     .n_paths = 1,
                                     .out = output,
                                     .encoder = bytes_encoder(true), /* its prefix must not come into the store */
                                     .vocabulary = vocabulary,
                                     .tokenizer_fingerprint = tokenizer,
                                     .tokenizer = "bytes",
                                     .text_field = "text"};
    store_build_t *b = NULL;
    OK(store_build_open(&o, &b));
    return b;
}

/* Builds what is missing and joins; how many shards were built, or -1 when one was refused. */
static int64_t build_missing(const store_build_t *b) {
    int64_t built = 0;
    OK(store_build_prepare(b));
    for (int64_t i = 0; i < store_build_shards(b); i++) {
        bool there = true;
        OK(store_build_find(b, i, &there));
        if (there) continue;
        if (store_build_shard(b, i) != ST_OK) return -1;
        built++;
    }
    OK(store_build_join(b));
    return built;
}

static void write_input(const char *text) {
    free(scratch_file(dir, "in.jsonl", text, strlen(text)));
}

static void test_lines(void **state) {
    (void)state;
    static const struct {
        const char *line, *text, *metadata;
    } cases[] = {
        {"\xef\xbb\xbf{\"text\": \"plain\"}", "plain", "{}"},
        {"{\"z\": 1, \"text\": \"sorted\", \"a\": \"\xc3\xa4\"}\r", "sorted", "{\"a\":\"\xc3\xa4\",\"z\":1}"},
        {"   \n{\"text\": \" <s> \", \"n\": {\"b\": [1, -2.5, null], \"a\": {}}}", " \001 ",
         "{\"n\":{\"a\":{},\"b\":[1,-2.5,null]}}"},
        {"{\"id\": 9007199254740993, \"text\": \"x\", \"t\": true, \"f\": false}", "x",
         "{\"f\":false,\"id\":9007199254740993,\"t\":true}"},
        {"{\"prompt\": \"kept\", \"text\": \"y\", \"nul\": \"a\\u0000b\", \"tab\": \"\\t\"}", "y",
         "{\"nul\":\"a\\u0000b\",\"prompt\":\"kept\",\"tab\":\"\\t\"}"},
    };
    enum { N = sizeof cases / sizeof *cases };
    strbuf_t text = {0}, json = {0};
    for (int i = 0; i < N; i++) OK(strbuf_addf(&text, "%s\n", cases[i].line));
    write_input(text.data);
    store_build_t *b = open_build(5, 70000);
    assert_int_equal(build_missing(b), 1);
    token_store_t *s = NULL;
    OK(token_store_open(output, &s));
    assert_int_equal(token_store_documents(s), N);
    assert_int_equal(token_store_info(s)->token_bytes, 4);
    assert_true(token_store_info(s)->tokenizer_fingerprint == 5);
    i32buf_t ids = {0};
    for (int i = 0; i < N; i++) {
        i32buf_clear(&ids);
        OK(token_store_ids(s, i, 0, token_store_length(s, i), &ids));
        assert_int_equal(ids.len, strlen(cases[i].text));
        for (int64_t j = 0; j < ids.len; j++)
            assert_int_equal(ids.data[j], cases[i].text[j] == 1 ? BYTE_BOS : cases[i].text[j]);
        OK(token_store_metadata(s, i, &json));
        assert_string_equal(json.data, cases[i].metadata);
    }
    assert_string_equal(token_store_info(s)->fields,
                        "{\"a\":{\"string\":1},\"f\":{\"boolean\":1},\"id\":{\"integer\":1},\"n\":{\"object\":1},"
                        "\"nul\":{\"string\":1},\"prompt\":{\"string\":1},\"t\":{\"boolean\":1},\"tab\":{\"string\":1},"
                        "\"z\":{\"integer\":1}}");
    token_store_close(s);
    store_build_clean(b);
    assert_int_equal(access(b->parts, F_OK), -1);
    store_build_close(b);
    i32buf_release(&ids);
    strbuf_release(&text);
    strbuf_release(&json);
}

static void test_bad_lines(void **state) {
    (void)state;
    static const struct {
        const char *line, *says;
    } cases[] = {
        {"{\"text\": \"no end\"", "invalid JSON"},
        {"\"text\"", "object"},
        {"[1, 2]", "object"},
        {"{\"Text\": \"a\"}", "missing field 'text'"},
        {"{\"text\": 7}", "a number"},
        {"{\"text\": null}", "null"},
        {"{\"text\": [\"a\"]}", "an array"},
        {"{\"text\": \"\"}", "empty"},
        {"{\"text\": \"a\", \"text\": \"b\"}", "duplicate"},
        {"{\"text\": \"\xff\"}", "UTF-8"},
        {"{\"text\": \"a\", \"n\": 1e999}", "invalid JSON"},
        {"{\"text\": \"a\", \"n\": 99999999999999999999}", "invalid JSON"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        strbuf_t text = {0};
        for (int k = 1; k <= 60; k++) {
            if (k == 20) OK(strbuf_adds(&text, "\n")); /* counts as a line */
            OK(strbuf_addf(&text, "%s\n", k == 33 || k == 57 ? cases[i].line : "{\"text\": \"good\"}"));
        }
        write_input(text.data);
        store_build_t *b = open_build(5, 258);
        assert_int_equal(build_missing(b), -1);
        if (!strstr(st_message(), "in.jsonl:34: ") || !strstr(st_message(), cases[i].says))
            fail_msg("%s", st_message());
        store_build_clean(b);
        store_build_close(b);
        strbuf_release(&text);
    }
    assert_int_equal(access(output, F_OK), 0); /* that of the test before, untouched */
}

/* n lines; line `other` has another text. */
static void write_many(int n, int other) {
    strbuf_t text = {0};
    for (int i = 0; i < n; i++)
        OK(strbuf_addf(&text, "{\"text\": \"%s %d\", \"i\": %d}\n", i == other ? "other" : "words", i % 97, i));
    write_input(text.data);
    strbuf_release(&text);
}

static void flip(const char *path, long at) {
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    fputc(c ^ 1, f);
    fclose(f);
}

static uint64_t result(void) {
    token_store_t *s = NULL;
    OK(token_store_open(output, &s));
    OK(token_store_verify(s));
    uint64_t fingerprint = token_store_fingerprint(s);
    token_store_close(s);
    return fingerprint;
}

static void test_taken_over(void **state) {
    (void)state;
    enum { N = 3 * SHARD_LINES + 100 };
    write_many(N, -1);
    store_build_t *b = open_build(5, 258);
    assert_int_equal(store_build_shards(b), 4);
    assert_int_equal(build_missing(b), 4);
    uint64_t whole = result();
    assert_int_equal(build_missing(b), 0); /* all there */
    assert_true(result() == whole);
    char *part = store_build_part(b, 2);
    flip(part, 100000); /* damage, and a part that is gone */
    assert_int_equal(build_missing(b), 1);
    assert_int_equal(unlink(part), 0);
    assert_int_equal(build_missing(b), 1);
    assert_true(result() == whole);
    char *first = store_build_part(b, 0);
    assert_int_equal(rename(first, part), 0); /* a sound part of other lines */
    assert_int_equal(build_missing(b), 2);
    assert_true(result() == whole);
    store_build_close(b);
    write_many(N, SHARD_LINES + 7); /* one line is another: its shard alone is built again */
    b = open_build(5, 258);
    assert_int_equal(build_missing(b), 1);
    assert_true(result() != whole);
    store_build_close(b);
    b = open_build(6, 258); /* another tokenizer: all of them */
    assert_int_equal(build_missing(b), 4);
    store_build_clean(b);
    assert_int_equal(access(b->parts, F_OK), -1);
    store_build_close(b);
    free(first);
    free(part);
}

static void test_changed(void **state) {
    (void)state;
    write_many(10, -1);
    store_build_t *b = open_build(5, 258);
    OK(store_build_prepare(b));
    OK(store_build_shard(b, 0));
    write_many(11, -1);
    assert_int_equal(store_build_join(b), ST_INPUT);
    assert_non_null(strstr(st_message(), "changed"));
    store_build_clean(b);
    store_build_close(b);
}

static void test_many_fields(void **state) {
    (void)state;
    strbuf_t text = {0};
    for (int i = 0; i < 5000; i++) OK(strbuf_addf(&text, "{\"text\": \"a\", \"field%d\": 1}\n", i));
    write_input(text.data);
    store_build_t *b = open_build(5, 258);
    OK(store_build_prepare(b));
    OK(store_build_shard(b, 0)); /* 4096 of them */
    OK(store_build_shard(b, 1));
    assert_int_equal(store_build_join(b), ST_INPUT);
    assert_non_null(strstr(st_message(), "4096 different fields"));
    store_build_clean(b);
    store_build_close(b);
    strbuf_release(&text);
}

static void test_no_overwriting(void **state) {
    (void)state;
    write_many(3, -1);
    const char *paths[] = {input};
    store_build_options_t o = {.paths = paths, .n_paths = 1, .out = input, .tokenizer = "", .text_field = "text"};
    store_build_t *b = NULL;
    assert_int_equal(store_build_open(&o, &b), ST_USAGE);
    o.n_paths = 0;
    o.out = output;
    assert_int_equal(store_build_open(&o, &b), ST_USAGE);
    char *missing = scratch_path(dir, "missing.jsonl");
    const char *two[] = {input, missing};
    o.paths = two;
    o.n_paths = 2;
    assert_int_equal(store_build_open(&o, &b), ST_INPUT);
    assert_null(b);
    free(missing);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),   cmocka_unit_test(test_bad_lines),   cmocka_unit_test(test_taken_over),
        cmocka_unit_test(test_changed), cmocka_unit_test(test_many_fields), cmocka_unit_test(test_no_overwriting),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
