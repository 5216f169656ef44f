/* Labels: the words that examples name in their own fields, and what is refused. A byte is a token. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

static const char *const tasks[] = {"translate", "summarize", "answer"};

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

static int field_of(virtual_layout_t *v, const char *name, bool optional) {
    int field;
    ok(virtual_add_field(v, name, tasks, 3, optional, &field));
    return field;
}

static char *dir;

static dataset_options_t options(const virtual_layout_t *v) {
    return (dataset_options_t){.encoder = bytes_encoder(true),
                               .max_seq_length = 100,
                               .chat_template = CHAT_CHATML,
                               .append_eos = true,
                               .layout = v};
}

static void check_labels(const dataset_t *d, int64_t i, int32_t first, int32_t second) {
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    ok(dataset_sequence(d, i, -1, &scratch, &s));
    assert_int_equal(s.label[0], first);
    assert_int_equal(s.label[1], second);
    assert_int_equal(s.label[2], -1);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
}

static void test_labels(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    dataset_t *d;
    field_of(&v, "task", false);
    field_of(&v, "tone", true);
    const char *text = "{\"prompt\": \"a\", \"completion\": \"b\", \"task\": \"answer\"}\n"
                       "{\"tone\": \"translate\", \"task\": \"summarize\", \"prompt\": \"a\", \"completion\": \"b\"}\n"
                       "{\"prompt\": \"a\", \"completion\": \"b\", \"task\": \"translate\", \"tone\": null}\n"
                       "{\"prompt\": \"a\", \"completion\": \"b\", \"task\": \"translate\", \"tone\": \"harsh\"}\n";
    ok(text_dataset(dir, &text, 1, options(&v), &d));
    check_labels(d, 0, 2, -1);
    check_labels(d, 1, 1, 0);
    check_labels(d, 2, 0, -1);
    check_labels(d, 3, 0, -1);
    dataset_close(d);

    dataset_options_t o = options(&v); /* cut examples and pieces of documents keep them */
    o.truncation = TRUNCATE_LEFT;
    o.max_seq_length = 4;
    text = "{\"prompt\": \"abcde\", \"completion\": \"f\", \"task\": \"answer\", \"tone\": \"summarize\"}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    check_labels(d, 0, 2, 1);
    dataset_close(d);
    text = "{\"text\": \"0123456\", \"task\": \"summarize\"}\n{\"text\": \"0\", \"task\": \"answer\"}\n";
    ok(text_dataset(dir, &text, 1, o, &d));
    assert_int_equal(dataset_sequences(d), 4);
    check_labels(d, 2, 1, -1);
    check_labels(d, 3, 2, -1);
    check_labels(d, 0, 1, -1);
    dataset_close(d);
    virtual_release(&v);
}

static void refuse(const virtual_layout_t *v, const char *fields, const char *want) {
    dataset_t *d = NULL;
    strbuf_t text = {0}, message = {0};
    ok(strbuf_addf(&text, "{\"text\": \"good\", \"task\": \"answer\"}\n{\"text\": \"bad\"%s}\n", fields));
    const char *const file = text.data;
    assert_int_equal(text_dataset(dir, &file, 1, options(v), &d), ST_INPUT);
    ok(strbuf_addf(&message, "%s/a.jsonl:2: %s", dir, want));
    status_t st = text_dataset(dir, &file, 1, options(v), &d);
    assert_int_equal(st, ST_INPUT);
    assert_string_equal(st_message(), message.data);
    strbuf_release(&text);
    strbuf_release(&message);
}

static void test_label_errors(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    field_of(&v, "task", false);
    field_of(&v, "tone", true);
    refuse(&v, "", "missing field 'task'; add it with one of the values 'translate', 'summarize', 'answer'");
    refuse(&v, ", \"task\": null",
           "missing field 'task'; add it with one of the values 'translate', 'summarize', 'answer'");
    refuse(&v, ", \"task\": \"sumarize\"", "field 'task' has the unknown value 'sumarize'; did you mean 'summarize'?");
    refuse(&v, ", \"task\": \"poem\"",
           "field 'task' has the unknown value 'poem'; use one of 'translate', 'summarize', 'answer'");
    refuse(&v, ", \"task\": \"\"",
           "field 'task' has the unknown value ''; use one of 'translate', 'summarize', 'answer'");
    refuse(&v, ", \"task\": \"answer\\u0000\"", /* a word is the whole string */
           "field 'task' has the unknown value 'answer?'; did you mean 'answer'?");
    refuse(&v, ", \"task\": \"0123456789012345678901234567890123456789\\u00e9\"",
           "field 'task' has the unknown value '0123456789012345678901234567890123456789...'; use one of 'translate', "
           "'summarize', 'answer'");
    refuse(&v, ", \"task\": \"\\n12345678901234567890123456789012345678\\u00e9e\"", /* no half of a character */
           "field 'task' has the unknown value '?12345678901234567890123456789012345678...'; use one of 'translate', "
           "'summarize', 'answer'");
    refuse(&v, ", \"task\": 1", "field 'task' is a number; it must be a string");
    refuse(&v, ", \"task\": \"answer\", \"tone\": [\"answer\"]", "field 'tone' is an array; it must be a string");
    virtual_release(&v);

    const char *many[12] = {"aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg", "hhhh", "iiii", "jjjj", "kkkk"};
    int field;
    many[11] = "llll";
    ok(virtual_add_field(&v, "task", many, 12, false, &field));
    const char *text = "{\"text\": \"a\"}\n";
    dataset_t *d;
    assert_int_equal(text_dataset(dir, &text, 1, options(&v), &d), ST_INPUT);
    assert_non_null(strstr(st_message(), ":1: missing field 'task'; add it with one of the values 'aaaa', 'bbbb', "
                                         "'cccc', 'dddd', 'eeee', 'ffff', 'gggg', 'hhhh' and 4 more"));
    virtual_release(&v);
}

/* Labels given beside the line stand in for those it does not name. */
static void test_standard_labels(void **state) {
    (void)state;
    virtual_layout_t v = {0};
    field_of(&v, "task", false);
    field_of(&v, "tone", true);
    const encoder_t e = bytes_encoder(false);
    const int32_t both[] = {2, 1}, tone[] = {-1, 1};
    render_options_t o = {.layout = &v, .label = both};
    const struct {
        const char *line;
        int32_t task, tone;
    } cases[] = {
        {"{\"text\": \"a\"}", 2, 1},
        {"{\"text\": \"a\", \"task\": \"translate\"}", 0, 1},
        {"{\"text\": \"a\", \"task\": \"other\", \"tone\": \"answer\"}", 2, 2},
    };
    sequence_t s = {0};
    for (int i = 0; i < 3; i++) {
        ok(render_example(&e, &o, NULL, cases[i].line, strlen(cases[i].line), &s));
        assert_int_equal(s.label[0], cases[i].task);
        assert_int_equal(s.label[1], cases[i].tone);
    }
    o.label = tone;
    assert_int_equal(render_example(&e, &o, "x:3", cases[0].line, strlen(cases[0].line), &s), ST_INPUT);
    assert_true(strncmp(st_message(), "x:3: missing field 'task'", 25) == 0);
    o.layout = NULL;
    ok(render_example(&e, &o, NULL, cases[1].line, strlen(cases[1].line), &s));
    assert_int_equal(s.label[0], -1);
    sequence_release(&s);
    virtual_release(&v);
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
        cmocka_unit_test(test_labels),
        cmocka_unit_test(test_label_errors),
        cmocka_unit_test(test_standard_labels),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
