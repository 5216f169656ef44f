/* The key `stages`: what each stage is, what is refused, what is written out and compared. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "train/config/config.h"
#include "train/run/registry.h"

#define HEAD                                                                                                           \
    "model: m\nmethod: {type: lora}\ndata: {train: a.jsonl, packing: none}\noutput_dir: o\n"                           \
    "training: {max_steps: 10}\n"                                                                                      \
    "conditioning: {special_tokens: [\"<x>\"], template: [{slot: control, text: \"<x>\"}, "                            \
    "{slot: document, text: \"{text}\"}]}\n"

static status_t parse(const char *text, config_t *out) {
    memset(out, 0, sizeof *out);
    return config_parse("dir/run.yaml", text, strlen(text), NULL, 0, registry_methods(), out);
}

static void stages_have_the_run_and_their_own(void **state) {
    (void)state;
    config_t c, again;
    assert_int_equal(parse(HEAD "stages:\n"
                                "  - {share: 0.5}\n"
                                "  - {share: 0.25, conditioning: none, data: {train: b.jsonl}}\n"
                                "  - share: 0.25\n"
                                "    objective: {type: unlikelihood, threshold: 0.5}\n"
                                "    data: {filter: {field: score, at_most: 1}}\n"
                                "    conditioning: {template: [{slot: document, text: \"{text}\"}]}\n",
                           &c),
                     ST_OK);
    assert_int_equal(c.stage_count, 3);
    const config_t *s = c.stage;
    assert_true(s[0].share == 0.5 && s[1].share == 0.25 && s[2].share == 0.25);
    assert_int_equal(s[0].conditioning.template.count, 2);
    assert_int_equal(s[1].conditioning.template.count, 0);
    assert_int_equal(s[2].conditioning.template.count, 1);
    for (int i = 0; i < 3; i++) assert_int_equal(s[i].conditioning.special_tokens.count, 1);
    assert_string_equal(s[0].data.train.items[0].path, "dir/a.jsonl");
    assert_string_equal(s[1].data.train.items[0].path, "dir/b.jsonl");
    assert_int_equal(s[1].data.packing, c.data.packing);
    assert_string_equal(s[1].objective.type, "mle");
    assert_string_equal(s[2].objective.type, "unlikelihood");
    assert_string_equal(s[2].data.filter.field, "score");

    strbuf_t text = {0}, twice = {0}, changes = {0};
    assert_int_equal(config_dump(&c, &text), ST_OK);
    assert_int_equal(parse(text.data, &again), ST_OK);
    assert_int_equal(config_dump(&again, &twice), ST_OK);
    assert_string_equal(text.data, twice.data);
    assert_int_equal(config_diff(&c, &again, &changes), ST_OK);
    assert_int_equal(changes.len, 0);
    strbuf_release(&text);
    strbuf_release(&twice);
    config_release(&again);
    config_release(&c);
}

static void differences_are_named(void **state) {
    (void)state;
    config_t a, b;
    strbuf_t changes = {0};
    assert_int_equal(parse(HEAD "stages: [{share: 0.5}, {share: 0.5, data: {packing: none}}]\n", &a), ST_OK);
    assert_int_equal(parse(HEAD "stages: [{share: 0.4}, {share: 0.6, data: {packing: best-fit}}]\n", &b), ST_OK);
    assert_int_equal(config_diff(&a, &b, &changes), ST_OK);
    assert_non_null(strstr(changes.data, "stages.1.share: 0.5 -> 0.4"));
    assert_non_null(strstr(changes.data, "stages.2.data.packing: none -> best-fit"));
    config_release(&b);
    strbuf_clear(&changes);
    assert_int_equal(parse(HEAD, &b), ST_OK);
    assert_int_equal(config_diff(&a, &b, &changes), ST_OK);
    assert_string_equal(changes.data, "stages: 2 -> 0 entries\n");
    strbuf_release(&changes);
    config_release(&a);
    config_release(&b);
}

static void bad_stages_are_refused_by_line(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } rows[] = {
        {HEAD "stages: 3\n", "run.yaml:7: 'stages' must be a list, found a single value"},
        {HEAD "stages: []\n", "run.yaml:7: 'stages' must have 1 to 64 entries, found 0"},
        {HEAD "stages:\n  - 0.5\n  - 0.5\n", "run.yaml:8: an entry of 'stages' must be a mapping with share"},
        {HEAD "stages:\n  - {conditioning: none}\n", "run.yaml:8: missing key 'share' in stages"},
        {HEAD "stages:\n  - {share: most}\n",
         "run.yaml:8: 'share' in stages must be a number above 0 and at most 1, found 'most'"},
        {HEAD "stages:\n  - {share: 1.5}\n", "run.yaml:8: 'share' in stages must be a number above 0 and at most 1"},
        {HEAD "stages:\n  - {share: -1}\n", "run.yaml:8: 'share' in stages must be a number above 0 and at most 1"},
        {HEAD "stages:\n  - {share: nan}\n", "run.yaml:8: 'share' in stages must be a number above 0 and at most 1"},
        {HEAD "stages:\n  - {share: 0.5}\n  - {share: 0.4}\n",
         "run.yaml:7: the shares of 'stages' add up to 0.9; they must add up to 1"},
        {HEAD "stages:\n  - {share: 1, trainig: {seed: 3}}\n", "run.yaml:8: unknown key 'trainig' in stages"},
        {HEAD "stages:\n  - {share: 1, data: {eval: b}}\n", "run.yaml:8: unknown key 'eval' in stages"},
        {HEAD "stages:\n  - {share: 1, data: none}\n",
         "run.yaml:8: 'data' in stages must be a mapping, found a single value"},
        {HEAD "stages:\n  - {share: 1, conditioning: {special_tokens: [a]}}\n",
         "run.yaml:8: unknown key 'special_tokens' in stages"},
        {HEAD "stages:\n  - {share: 1, objective: {type: unlikelyhood}}\n",
         "run.yaml:8: unknown objective 'unlikelyhood' (did you mean 'unlikelihood'?)"},
        {"model: m\nmethod: {type: lora}\ndata: {train: a}\noutput_dir: o\nstages: [{share: 1}]\n",
         "run.yaml:5: 'stages' needs 'max_steps' in training"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config_t c;
        assert_int_equal(parse(rows[i].text, &c), ST_USAGE);
        if (!strstr(st_message(), rows[i].message)) fail_msg("row %zu: %s", i, st_message());
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stages_have_the_run_and_their_own),
        cmocka_unit_test(differences_are_named),
        cmocka_unit_test(bad_stages_are_refused_by_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
