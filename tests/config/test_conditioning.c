/* The section `conditioning` and `data.filter`: every value in its place, written out and read back, and the exact
 * words of every mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include "common_lora_fields.h"

#define BASE      "model: m\nmethod: {type: lora}\noutput_dir: o\n" /* lines 1 to 3 */
#define DATA      "data: {train: a.jsonl}\n"                        /* line 4 */
#define SLOTS     BASE DATA "conditioning:\n  template:\n"          /* lines 5 and 6 */
#define DOC       "    - {slot: document, text: \"{text}\"}\n"
#define FILTER(x) BASE "data: {train: a.jsonl, filter: " x "}\n"

static const struct {
    const char *text, *message;
} bad[] = {
    {BASE DATA "conditioning: yes\n", "run.yaml:5: 'conditioning' must be a mapping, found a single value"},
    {BASE DATA "conditioning: [1]\n", "run.yaml:5: 'conditioning' must be a mapping, found a list"},
    {BASE DATA "conditioning: {templat: []}\n",
     "run.yaml:5: unknown key 'templat' in conditioning (did you mean 'template'?)"},
    {BASE DATA "conditioning: {template: []}\n", "run.yaml:5: 'template' in conditioning must be a list of slots such "
                                                 "as {slot: metadata, text: ...}, found a list"},
    {BASE DATA "conditioning: {template: \"{text}\"}\n",
     "run.yaml:5: 'template' in conditioning must be a list of slots such as {slot: metadata, text: ...}, found "
     "'{text}'"},
    {SLOTS "    - metadata\n" DOC, "run.yaml:6: 'template' in conditioning must be a list of slots such as {slot: "
                                   "metadata, text: ...}, found 'metadata'"},
    {SLOTS "    - {text: a}\n" DOC, "run.yaml:7: missing key 'slot' in template"},
    {SLOTS "    - {slot: meta, text: a}\n" DOC,
     "run.yaml:7: 'slot' in template must be one of metadata, control, document, suffix, found 'meta'"},
    {SLOTS "    - {slot: metadata, texts: a}\n" DOC,
     "run.yaml:7: unknown key 'texts' in template (did you mean 'text'?)"},
    {SLOTS "    - {slot: metadata}\n" DOC,
     "run.yaml:7: 'template' in conditioning: the slot has no text; give it 'text' or 'choose'"},
    {SLOTS "    - {slot: metadata, text: \"{a\"}\n" DOC,
     "run.yaml:7: 'template' in conditioning: a '{' has no '}' behind its field; write {{ for a brace that is text"},
    {SLOTS "    - {slot: metadata, text: \"a}\"}\n" DOC,
     "run.yaml:7: 'template' in conditioning: a '}' has no '{' before it; write }} for a brace that is text"},
    {SLOTS "    - {slot: metadata, text: \"{text}\"}\n" DOC,
     "run.yaml:7: 'template' in conditioning: {text} may stand in the document slot alone"},
    {SLOTS "    - {slot: metadata, text: a, dropout: 2}\n" DOC,
     "run.yaml:7: 'dropout' in template must be at least 0 and at most 1, found '2'"},
    {SLOTS "    - {slot: metadata, text: a, loss: 1}\n" DOC,
     "run.yaml:7: 'loss' in template must be true or false, found '1'"},
    {SLOTS "    - {slot: metadata, text: a, missing: ignore}\n" DOC,
     "run.yaml:7: 'missing' in template must be one of error, skip, found 'ignore'"},
    {SLOTS "    - {slot: metadata, text: a, choose: {field: s, at_most: 1, then: b}}\n" DOC,
     "run.yaml:7: 'text' and 'choose' (line 7) in template exclude each other; keep one"},
    {SLOTS "    - {slot: control, choose: score}\n" DOC,
     "run.yaml:7: 'choose' in template must be a mapping such as {field: score, at_most: 0.5}, found 'score'"},
    {SLOTS "    - {slot: control, choose: {field: s, then: b}}\n" DOC,
     "run.yaml:7: 'choose' in template needs 'at_most' or 'at_least'"},
    {SLOTS "    - {slot: control, choose: {at_most: 1, then: b}}\n" DOC, "run.yaml:7: missing key 'field' in choose"},
    {SLOTS "    - {slot: control, choose: {field: s, at_most: 1}}\n" DOC, "run.yaml:7: missing key 'then' in choose"},
    {SLOTS "    - {slot: control, choose: {field: s, at_most: x, then: b}}\n" DOC,
     "run.yaml:7: 'at_most' in choose must be a number, found 'x'"},
    {SLOTS "    - {slot: control, choose: {field: s, at_most: 1, at_least: 0, then: b}}\n" DOC,
     "run.yaml:7: 'at_most' and 'at_least' (line 7) in choose exclude each other; keep one"},
    {SLOTS "    - {slot: metadata, text: a}\n",
     "run.yaml:6: 'template' in conditioning: the template has 0 document slots; exactly one {slot: document, text: "
     "\"{text}\"} is needed"},
    {SLOTS DOC DOC, "run.yaml:6: 'template' in conditioning: the template has 2 document slots; exactly one {slot: "
                    "document, text: \"{text}\"} is needed"},
    {SLOTS "    - {slot: suffix, text: a}\n" DOC,
     "run.yaml:6: 'template' in conditioning: a suffix slot stands before the document; move it behind, or call it "
     "metadata or control"},
    {SLOTS "    - {slot: document, text: \"Text: {text}\"}\n",
     "run.yaml:7: 'template' in conditioning: the text of the document slot is \"{text}\"; put what surrounds it into "
     "slots of their own"},
    {SLOTS "    - {slot: document, dropout: 0.5}\n",
     "run.yaml:7: 'template' in conditioning: the document slot has dropout; only other slots may"},
    {SLOTS "    - {slot: document, loss: false}\n",
     "run.yaml:6: 'template' in conditioning: no slot is always there and has a loss; give the document 'loss: true'"},
    {FILTER("0.5"), "run.yaml:4: 'filter' in data must be a mapping such as {field: score, at_most: 0.5}, found '0.5'"},
    {FILTER("{at_most: 1}"), "run.yaml:4: missing key 'field' in filter"},
    {FILTER("{field: s}"), "run.yaml:4: 'filter' in data needs 'at_most' or 'at_least'"},
    {FILTER("{field: s, at_least: .nan}"), "run.yaml:4: 'at_least' in filter must be a number, found '.nan'"},
    {FILTER("{field: s, at_most: 1, then: a}"), "run.yaml:4: unknown key 'then' in filter"},
    {FILTER("{field: s, at_least: 1, at_most: 2}"),
     "run.yaml:4: 'at_most' and 'at_least' (line 4) in filter exclude each other; keep one"},
};

static void test_bad(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config_t c = {0};
        status_t st = config_parse("run.yaml", bad[i].text, strlen(bad[i].text), NULL, 0, &sample_methods, &c);
        if (st != ST_USAGE || strcmp(st_message(), bad[i].message) != 0) {
            print_error("%s\n  expected (2) %s\n  got      (%d) %s\n", bad[i].text, bad[i].message, st_exit_code(st),
                        st_message());
            wrong++;
        }
        st_clear();
    }
    assert_int_equal(wrong, 0);
}

static config_t load(const char *text, const char *const *overrides, int count) {
    config_t c = {0};
    status_t st = config_parse("run.yaml", text, strlen(text), overrides, count, &sample_methods, &c);
    if (st != ST_OK) fail_msg("%s", st_message());
    return c;
}

static const char good[] = FILTER("{field: avg, at_most: 0}") "conditioning:\n"
                                                              "  special_tokens: [\"<|good|>\", \"<|bad|>\"]\n"
                                                              "  template:\n"
                                                              "    - {slot: metadata, text: \"URL: {domain}\\n\\n\"}\n"
                                                              "    - slot: control\n"
                                                              "      choose: {field: score, at_most: 0.00056, then: "
                                                              "\"<|good|>\", else: \"<|bad|>\"}\n"
                                                              "      loss: true\n"
                                                              "      dropout: 0.01\n"
                                                              "      missing: skip\n"
                                                              "    - {slot: document}\n"
                                                              "    - {slot: suffix, choose: {field: n, at_least: -2, "
                                                              "then: x}}\n";

static void check(const config_t *c) {
    const cfg_template_t *t = &c->conditioning.template;
    assert_int_equal(c->conditioning.special_tokens.count, 2);
    assert_string_equal(c->conditioning.special_tokens.items[1], "<|bad|>");
    assert_int_equal(t->count, 4);
    assert_string_equal(t->items[0].text, "URL: {domain}\n\n");
    assert_false(t->items[0].loss);
    assert_int_equal(t->items[0].missing, MISSING_ERROR);
    assert_int_equal(t->items[1].kind, SLOT_CONTROL);
    assert_null(t->items[1].text);
    assert_string_equal(t->items[1].choose.field, "score");
    assert_false(t->items[1].choose.at_least);
    assert_true(t->items[1].choose.limit == 0.00056);
    assert_string_equal(t->items[1].then, "<|good|>");
    assert_string_equal(t->items[1].otherwise, "<|bad|>");
    assert_true(t->items[1].loss);
    assert_true(t->items[1].dropout == 0.01);
    assert_int_equal(t->items[1].missing, MISSING_SKIP);
    assert_string_equal(t->items[2].text, "{text}");
    assert_true(t->items[2].loss);
    assert_true(t->items[3].choose.at_least);
    assert_true(t->items[3].choose.limit == -2);
    assert_null(t->items[3].otherwise);
    assert_false(t->items[3].loss);
    assert_string_equal(c->data.filter.field, "avg");
    assert_true(c->data.filter.limit == 0 && !c->data.filter.at_least);
}

/* Values, and the same ones after they were written out. */
static void test_values(void **state) {
    (void)state;
    config_t c = load(good, NULL, 0);
    check(&c);
    strbuf_t text = {0}, again = {0};
    assert_int_equal(config_dump(&c, &text), ST_OK);
    config_t d = load(text.data, NULL, 0);
    check(&d);
    assert_int_equal(config_dump(&d, &again), ST_OK);
    assert_string_equal(text.data, again.data);
    strbuf_release(&text);
    strbuf_release(&again);
    config_release(&c);
    config_release(&d);
}

static void test_none(void **state) {
    (void)state;
    const char *texts[] = {BASE DATA, BASE DATA "conditioning: none\n", BASE DATA "conditioning:\n",
                           BASE DATA "conditioning: {template: null}\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        config_t c = load(texts[i], NULL, 0);
        assert_int_equal(c.conditioning.template.count, 0);
        assert_int_equal(c.conditioning.special_tokens.count, 0);
        assert_null(c.data.filter.field);
        strbuf_t text = {0};
        assert_int_equal(config_dump(&c, &text), ST_OK);
        assert_non_null(strstr(text.data, "  template: null\n"));
        assert_non_null(strstr(text.data, "  filter: null\n"));
        strbuf_release(&text);
        config_release(&c);
    }
    const char *off[] = {"conditioning=none", "data.filter=null"};
    config_t c = load(good, off, 2);
    assert_int_equal(c.conditioning.template.count, 0);
    assert_null(c.data.filter.field);
    config_release(&c);
}

/* A run must not go on with another template or filter. */
static void test_diff(void **state) {
    (void)state;
    const char *other[] = {"data.filter={field: avg, at_most: 1}", "conditioning=none"};
    config_t a = load(good, NULL, 0), b = load(good, other, 2);
    strbuf_t text = {0};
    assert_int_equal(config_diff(&a, &a, &text), ST_OK);
    assert_int_equal(text.len, 0);
    assert_int_equal(config_diff(&a, &b, &text), ST_OK);
    assert_non_null(strstr(text.data, "data.filter: {field: avg, at_most: 0.0} -> {field: avg, at_most: 1.0}\n"));
    assert_non_null(strstr(text.data, "conditioning.template: [{slot: metadata, text: \"URL: {domain}\\n\\n\", loss: "
                                      "false, dropout: 0.0, missing: error}, "));
    strbuf_release(&text);
    config_release(&a);
    config_release(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_none),
        cmocka_unit_test(test_diff),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
