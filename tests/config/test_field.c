/* Types of values that only some methods use: lists of texts, fields with their labels, choices in any case. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "train/config/config.h"

typedef struct sample {
    int init;
    cfg_strings_t words;
    cfg_fields_t prompts;
} sample_t;

static const cfg_field_t fields[] = {
    {"init", CFG_CHOICE, offsetof(sample_t, init), "RANDOM", 0, 0, "RANDOM|TEXT|SAMPLE_VOCAB", "", NULL, CFG_NOCASE},
    {"words", CFG_STRINGS, offsetof(sample_t, words), NULL, 0, 0, NULL, "", NULL, 0},
    {"prompts", CFG_FIELDS, offsetof(sample_t, prompts), NULL, 0, 0, NULL, "", NULL, 0},
    {0}};
static const method_fields_t sample = {"sample", fields, sizeof(sample_t)};

static const method_fields_t *find(const char *type) {
    return strcmp(type, "sample") ? NULL : &sample;
}
static const char *type(int i) {
    return i ? NULL : "sample";
}
static const config_methods_t methods = {.find = find, .type = type};

static status_t parse(const char *text, config_t *out) {
    return config_parse("run.yaml", text, strlen(text), NULL, 0, &methods, out);
}

#define HEAD "model: m\nmethod:\n  type: sample\n" /* lines 1 to 3 */
#define TAIL "data: {train: a.jsonl}\noutput_dir: o\n"

static void test_bad(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"  init: txt\n",
         "run.yaml:4: 'init' in method must be one of RANDOM, TEXT, SAMPLE_VOCAB, found 'txt' (did you "
         "mean 'text'?)"},
        {"  init: RANDOMLY\n",
         "run.yaml:4: 'init' in method must be one of RANDOM, TEXT, SAMPLE_VOCAB, found 'RANDOMLY' "
         "(did you mean 'random'?)"},
        {"  init: 7\n", "run.yaml:4: 'init' in method must be one of RANDOM, TEXT, SAMPLE_VOCAB, found '7'"},
        {"  words: good\n", "run.yaml:4: 'words' in method must be a list of texts, found 'good'"},
        {"  words: []\n", "run.yaml:4: 'words' in method must not be an empty list"},
        {"  words: [a, {b: c}]\n", "run.yaml:4: 'words' in method must be a list of texts, found a mapping"},
        {"  words: [a, '']\n", "run.yaml:4: 'words' in method must be a list of texts, found ''"},
        {"  words: [a, null]\n", "run.yaml:4: 'words' in method must be a list of texts, found nothing"},
        {"  prompts: task\n",
         "run.yaml:4: 'prompts' in method must be {field, values} or a list of them, found 'task'"},
        {"  prompts: []\n", "run.yaml:4: 'prompts' in method must not be an empty list"},
        {"  prompts: {field: task}\n", "run.yaml:4: missing key 'values' in prompts"},
        {"  prompts: {values: [a]}\n", "run.yaml:4: missing key 'field' in prompts"},
        {"  prompts:\n    - field: task\n      valeus: [a]\n",
         "run.yaml:6: unknown key 'valeus' in prompts (did you mean 'values'?)"},
        {"  prompts:\n    - field: task\n      values: a\n",
         "run.yaml:6: 'values' in prompts must be a list of texts, found 'a'"},
        {"  prompts:\n    field: task\n    values: [a]\n    num_virtual_tokens: 0\n",
         "run.yaml:7: 'num_virtual_tokens' in prompts must be at least 1 and at most 65536, found '0'"},
        {"  prompts:\n    - {field: task, values: [a, b, a]}\n",
         "run.yaml:5: 'prompts' in method lists the value 'a' of 'task' twice; list it once"},
        {"  prompts:\n    - {field: task, values: [a]}\n    - {field: task, values: [b]}\n",
         "run.yaml:6: 'prompts' in method names the field 'task' twice; name it once"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        config_t c;
        snprintf(text, sizeof text, HEAD "%s" TAIL, bad[i][0]);
        assert_int_equal(parse(text, &c), ST_USAGE);
        assert_string_equal(st_message(), bad[i][1]);
    }
}

static void test_values(void **state) {
    (void)state;
    config_t c;
    assert_int_equal(parse(HEAD TAIL, &c), ST_OK);
    const sample_t *s = c.method[0].cfg;
    assert_int_equal(s->init, 0);
    assert_int_equal(s->words.count, 0);
    assert_int_equal(s->prompts.count, 0);
    config_release(&c);
    assert_int_equal(parse(HEAD "  init: sample_vocab\n  words: [very good, 'no', 7]\n"
                                "  prompts:\n    - {field: task, values: [a, b]}\n"
                                "    - {field: tone, values: [kind], num_virtual_tokens: 3}\n" TAIL,
                           &c),
                     ST_OK);
    s = c.method[0].cfg;
    assert_int_equal(s->init, 2);
    assert_int_equal(s->words.count, 3);
    assert_string_equal(s->words.items[0], "very good");
    assert_string_equal(s->words.items[2], "7");
    assert_int_equal(s->prompts.count, 2);
    assert_string_equal(s->prompts.items[0].field, "task");
    assert_string_equal(s->prompts.items[0].values.items[1], "b");
    assert_int_equal(s->prompts.items[0].num_virtual_tokens, 0);
    assert_int_equal(s->prompts.items[1].num_virtual_tokens, 3);
    config_release(&c);
    assert_int_equal(parse(HEAD "  prompts: {field: task, values: [a]}\n" TAIL, &c), ST_OK);
    s = c.method[0].cfg;
    assert_int_equal(s->prompts.count, 1);
    config_release(&c);
}

static void test_dump_and_diff(void **state) {
    (void)state;
    config_t c, back, other;
    strbuf_t text = {0}, again = {0}, diff = {0};
    assert_int_equal(parse(HEAD "  init: Text\n  words: [very good, \"no\"]\n"
                                "  prompts: {field: task, values: [a, 'x, y'], num_virtual_tokens: 2}\n" TAIL,
                           &c),
                     ST_OK);
    assert_int_equal(config_dump(&c, &text), ST_OK);
    assert_non_null(strstr(text.data, "  init: TEXT\n  words: [\"very good\", \"no\"]\n"
                                      "  prompts: [{field: task, values: [a, \"x, y\"], num_virtual_tokens: 2}]\n"));
    assert_int_equal(parse(text.data, &back), ST_OK);
    assert_int_equal(config_dump(&back, &again), ST_OK);
    assert_string_equal(again.data, text.data);
    assert_int_equal(config_diff(&c, &back, &diff), ST_OK);
    assert_int_equal(diff.len, 0);
    assert_int_equal(parse(HEAD TAIL, &other), ST_OK);
    assert_int_equal(config_diff(&c, &other, &diff), ST_OK);
    assert_string_equal(diff.data, "method.init: TEXT -> RANDOM\n"
                                   "method.words: [\"very good\", \"no\"] -> null\n"
                                   "method.prompts: [{field: task, values: [a, \"x, y\"], num_virtual_tokens: 2}] -> "
                                   "null\n");
    strbuf_release(&text);
    strbuf_release(&again);
    strbuf_release(&diff);
    config_release(&c);
    config_release(&back);
    config_release(&other);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_bad), cmocka_unit_test(test_values),
                                       cmocka_unit_test(test_dump_and_diff)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
