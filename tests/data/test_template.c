/* Templates as such: which are refused, how values are printed, and fields that a user gives. A byte is a token. */
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "data/condition_impl.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_condition.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static void test_values(void **state) {
    (void)state;
    const struct {
        const char *json, *want;
    } cases[] = {
        {"\"a\\u00e9\\n\"", "a\xc3\xa9\n"},
        {"0", "0"},
        {"-12345678901234", "-12345678901234"},
        {"1.0", "1.0"},
        {"0.1", "0.1"},
        {"-2.50", "-2.5"},
        {"1e22", "1e+22"},
        {"1e15", "1000000000000000.0"},
        {"1e16", "1e+16"},
        {"0.0001", "0.0001"},
        {"0.00001", "1e-05"},
        {"1.7976931348623157e308", "1.7976931348623157e+308"},
        {"5e-324", "5e-324"},
        {"123456.789", "123456.789"},
        {"0.30000000000000004", "0.30000000000000004"},
        {"true", "true"},
        {"false", "false"},
    };
    const condition_slot_t slots[] = {{.kind = SLOT_CONTROL, .text = "{{{v}}}"}, document};
    condition_t *c = condition_template(slots, 2, 1);
    const encoder_t e = bytes_encoder(false);
    condition_tokens_t t = {0};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[128], want[128];
        snprintf(line, sizeof line, "{\"v\": %s}", cases[i].json);
        snprintf(want, sizeof want, "{%s}", cases[i].want);
        json_t *object = json_loads(line, 0, NULL);
        condition_ok(condition_render(c, &e, object, &t));
        if (strcmp(t.text.data ? t.text.data : "", "")) /* the document slot is the last one and has no text */
            fail_msg("'%s' is left", t.text.data);
        assert_int_equal(t.ids.len, strlen(want));
        for (int64_t k = 0; k < t.ids.len; k++) assert_int_equal((char)t.ids.data[k], want[k]);
        json_decref(object);
    }
    /* a second rendering of the same size takes no memory */
    const void *ids = t.ids.data, *bytes = t.text.data;
    json_t *object = json_loads("{\"v\": 3}", 0, NULL);
    condition_ok(condition_render(c, &e, object, &t));
    assert_ptr_equal(ids, t.ids.data);
    assert_ptr_equal(bytes, t.text.data);
    json_decref(object);
    condition_tokens_release(&t);
    condition_close(c);
}

static void test_templates(void **state) {
    (void)state;
    condition_slot_t many[CONDITION_MAX_SLOTS + 2];
    for (int i = 0; i < CONDITION_MAX_SLOTS + 1; i++) many[i] = url;
    many[CONDITION_MAX_SLOTS + 1] = document;
    const struct {
        condition_slot_t slot[3];
        int n;
        const char *want;
    } cases[] = {
        {{url}, 1, "the template has 0 document slots; exactly one"},
        {{document, document}, 2, "the template has 2 document slots; exactly one"},
        {{end, document}, 2, "a suffix slot stands before the document"},
        {{{.kind = SLOT_METADATA, .text = "{u"}, document}, 2, "a '{' has no '}'"},
        {{{.kind = SLOT_METADATA, .text = "u}"}, document}, 2, "a '}' has no '{'"},
        {{{.kind = SLOT_METADATA, .text = "{}"}, document}, 2, "'{}' names no field"},
        {{{.kind = SLOT_METADATA, .text = "{a{b}"}, document}, 2, "a '{' has no '}'"},
        {{{.kind = SLOT_METADATA, .text = "{text}"}, document}, 2, "{text} may stand in the document slot alone"},
        {{{.kind = SLOT_METADATA, .text = ""}, document}, 2, "the slot has no text"},
        {{{.kind = SLOT_METADATA, .text = "a", .dropout = 1.5}, document}, 2, "'dropout' must be from 0 to 1"},
        {{{.kind = SLOT_DOCUMENT, .text = "x{text}", .loss = true}}, 1, "the text of the document slot is \"{text}\""},
        {{{.kind = SLOT_DOCUMENT, .text = "{text}", .loss = true, .dropout = 0.1}}, 1, "the document slot has dropout"},
        {{{.kind = SLOT_DOCUMENT, .text = "{text}"}}, 1, "no slot is always there and has a loss"},
        {{{.kind = SLOT_DOCUMENT, .text = "{text}"}, {.kind = SLOT_SUFFIX, .text = "x", .loss = true, .dropout = 0.1}},
         2,
         "no slot is always there and has a loss"},
        {{{.kind = SLOT_CONTROL, .choose = {.field = "s"}}, document}, 2, "'choose' needs 'then'"},
        {{{.kind = SLOT_CONTROL, .text = "a", .choose = {.field = "s"}, .then = "b"}, document},
         2,
         "'text' and 'choose' exclude each other"},
    };
    condition_t *c;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_int_equal(condition_open(cases[i].slot, cases[i].n, &(condition_use_t){0}, &c), ST_USAGE);
        if (!strstr(st_message(), cases[i].want)) fail_msg("'%s' is not in '%s'", cases[i].want, st_message());
    }
    assert_int_equal(condition_open(many, CONDITION_MAX_SLOTS + 2, &(condition_use_t){0}, &c), ST_USAGE);
    assert_non_null(strstr(st_message(), "the template has 18 slots; at most 16 are allowed"));

    const condition_slot_t slots[] = {url,
                                      {.kind = SLOT_METADATA, .text = "{a b}{u}"},
                                      {.kind = SLOT_CONTROL, .choose = {"s", 0, 0}, .then = "x"},
                                      document};
    c = condition_template(slots, 4, 0);
    assert_string_equal(condition_field(c, 0), "u");
    assert_string_equal(condition_field(c, 1), "a b");
    assert_string_equal(condition_field(c, 2), "s");
    assert_null(condition_field(c, 3));
    condition_close(c);
}

/* Fields that a user gives: numbers may be texts, slots whose fields are not given are left out, and so are those
 * behind the document. */
static void test_given(void **state) {
    (void)state;
    const condition_slot_t slots[] = {
        url,
        {.kind = SLOT_CONTROL, .choose = {"s", false, 0.5}, .then = "+", .otherwise = "-", .loss = true},
        document,
        end};
    const struct {
        const char *json, *want, *document, *pair;
    } cases[] = {
        {"{\"u\": \"x\"}", "<x>", "^<x>ab.", "^<x>qr."},
        {"{\"s\": \"0.4\"}", "+", "^+ab.", "^+qr."},
        {"{\"s\": \"1\", \"u\": \"\"}", "<>-", "^<>-ab.", "^<>-qr."},
        {"{\"n\": 7}", "", "^ab.", "^qr."},
    };
    const encoder_t e = bytes_encoder(false);
    condition_tokens_t t = {0};
    condition_t *c;
    json_t *object;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        object = json_loads(cases[i].json, 0, NULL);
        condition_ok(condition_open(slots, 4, &(condition_use_t){.given = object, .document_only = true}, &c));
        condition_ok(condition_render(c, &e, NULL, &t));
        assert_int_equal(t.ids.len, strlen(cases[i].want));
        assert_int_equal(condition_head(c, &t), strlen(cases[i].want));
        for (int64_t k = 0; k < t.ids.len; k++) assert_int_equal((char)t.ids.data[k], cases[i].want[k]);
        /* a document's own fields do not count; a pair of prompt and completion has the slots in front, too */
        size_t n = strlen(cases[i].want);
        dataset_t *d = condition_dataset("{\"text\": \"ab\", \"u\": [1]}\n", condition_options(c, true));
        expect_sequence(d, 0, cases[i].document, &"000000111"[5 - n]);
        dataset_close(d);
        d = condition_dataset("{\"prompt\": \"q\", \"completion\": \"r\"}\n", condition_options(c, true));
        expect_sequence(d, 0, cases[i].pair, &"00000011"[4 - n]);
        dataset_close(d);
        condition_close(c);
        json_decref(object);
    }
    object = json_loads("{\"s\": \"much\"}", 0, NULL);
    condition_ok(condition_open(slots, 4, &(condition_use_t){.given = object}, &c));
    assert_int_equal(condition_render(c, &e, NULL, &t), ST_INPUT);
    condition_close(c);
    json_decref(object);
    condition_tokens_release(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_templates),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_given),
    };
    return cmocka_run_group_tests(tests, condition_setup, condition_teardown);
}
