/* Bad training data: each fault is refused with the line it stands in and the words a user gets to read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/dataset.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_files.h"

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

static dataset_options_t options(void) {
    return (dataset_options_t){.n_sources = 1,
                               .encoder = bytes_encoder(false),
                               .max_seq_length = 20,
                               .chat_template = CHAT_CHATML,
                               .append_eos = true};
}

static status_t open_path(const char *path, dataset_options_t o) {
    dataset_source_t source = {.path = path, .weight = 1};
    o.sources = &source;
    dataset_t *d = NULL;
    status_t st = dataset_open(&o, &d);
    if (st == ST_OK) st = dataset_scan(d, 0, dataset_examples(d));
    if (st == ST_OK) st = dataset_finish(d);
    dataset_close(d);
    return st;
}

/* The file is refused with `want`, which follows the path of the file. */
static void refuse_with(const char *text, size_t n, dataset_options_t o, status_t status, const char *want) {
    char *path = scratch_file(dir, "a.jsonl", text, n);
    st_clear();
    assert_int_equal(open_path(path, o), status);
    assert_true(strncmp(st_message(), path, strlen(path)) == 0);
    assert_string_equal(st_message() + strlen(path), want);
    free(path);
}

static void refuse(const char *text, const char *want) {
    refuse_with(text, strlen(text), options(), ST_INPUT, want);
}

#define GOOD "{\"text\": \"good\"}\n"

static void test_json(void **state) {
    (void)state;
    refuse(GOOD "\n{\"text\": \"a\",}\n",
           ":3: invalid JSON at column 14: string or '}' expected near '}'; a line is one JSON object");
    refuse(GOOD "{\"text\": \"a\"\n",
           ":2: invalid JSON at column 12: '}' expected near end of file; a line is one JSON object");
    refuse(GOOD "{\"text\": \"a\"} {}\n",
           ":2: invalid JSON at column 15: end of file expected near '{'; a line is one JSON object");
    refuse(GOOD "{\"text\": \"a\", \"text\": \"b\"}\n",
           ":2: invalid JSON at column 20: duplicate object key near '\"text\"'; a line is one JSON object");
    refuse(GOOD "{\"text\": \"\\ud800\"}\n",
           ":2: invalid JSON at column 17: invalid Unicode '\\uD800' near '\"\\ud800\"'; a line is one JSON object");
    refuse(GOOD "[\"text\"]\n", ":2: expected a JSON object; a line looks like {\"text\": \"...\"}");
    refuse(GOOD "{\"text\": \"a\xff\"}\n", ":2: invalid UTF-8 at byte 11; convert the file to UTF-8");
    refuse_with("{\"text\": \"a\"}\n\0", 15, options(), ST_INPUT,
                ":2: invalid JSON at column 1: '[' or '{' expected near end of file; a line is one JSON object");
}

static void test_fields(void **state) {
    (void)state;
    refuse("{\"txt\": \"a\"}\n",
           ":1: no known fields; expected 'text', or 'prompt' and 'completion', or 'messages', or "
           "'instruction' and 'output', or 'conversations'");
    refuse("{\"prompt\": \"a\", \"text\": \"b\"}\n",
           ":1: the fields fit two formats, text and prompt-completion; set data.format");
    refuse(GOOD "{\"text\": 3}\n", ":2: field 'text' is a number; it must be a string");
    refuse(GOOD "{\"text\": null}\n", ":2: field 'text' is null; it must be a string");
    refuse("{\"prompt\": \"a\"}\n", ":1: missing field 'completion'; add it as a string");
    refuse("{\"completion\": \"a\"}\n", ":1: missing field 'prompt'; add it as a string");
    refuse("{\"instruction\": \"a\"}\n", ":1: missing field 'output'; add it as a string");
    refuse("{\"instruction\": \"a\", \"input\": [], \"output\": \"\"}\n",
           ":1: field 'input' is an array; it must be a string");
    refuse(GOOD "{\"prompt\": \"a\", \"completion\": \"b\"}\n",
           ":2: the line has the format prompt-completion, but the file begins with text; give each format its own "
           "file");
    dataset_options_t o = options();
    o.format = FORMAT_PROMPT_COMPLETION;
    refuse_with(GOOD, strlen(GOOD), o, ST_INPUT, ":1: missing field 'prompt'; add it as a string");
}

static void test_messages(void **state) {
    (void)state;
    refuse("{\"messages\": \"hi\"}\n", ":1: field 'messages' is a string; it must be an array");
    refuse("{\"messages\": []}\n", ":1: field 'messages' is empty; remove the line");
    refuse("{\"messages\": [\"hi\"]}\n", ":1: messages[0] is a string; it must be an object with role and content");
    refuse("{\"messages\": [{\"role\": \"user\"}]}\n", ":1: messages[0]: missing field 'content'; add it as a string");
    refuse("{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"bot\", \"content\": \"\"}]}\n",
           ":1: messages[1] has the role 'bot'; roles are system, user and assistant");
    refuse("{\"messages\": [{\"role\": \"user\", \"content\": \"\"}, {\"role\": \"system\", \"content\": \"\"}]}\n",
           ":1: messages[1] has the role 'system'; only the first message may have it");
    refuse("{\"messages\": [{\"role\": \"user\\u0000\", \"content\": \"\"}]}\n",
           ":1: messages[0] has a NUL in its role; roles are system, user and assistant");
    refuse("{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n",
           ":1: the example has no token with a loss; remove it or give it a message of the assistant");
    dataset_options_t o = options();
    o.chat_template = CHAT_NONE;
    const char *chat = "{\"messages\": []}\n";
    refuse_with(chat, strlen(chat), o, ST_USAGE,
                ": conversations need data.chat_template; set it to chatml, llama3 or alpaca");
}

static void test_conversations(void **state) {
    (void)state;
    refuse("{\"conversations\": {}}\n", ":1: field 'conversations' is an object; it must be an array");
    refuse("{\"conversations\": [7]}\n", ":1: conversations[0] is a number; it must be an object with from and value");
    refuse("{\"conversations\": [{\"from\": \"human\", \"content\": \"a\"}]}\n",
           ":1: conversations[0]: missing field 'value'; add it as a string");
    refuse("{\"conversations\": [{\"from\": \"user\", \"value\": \"a\"}]}\n",
           ":1: conversations[0] has the role 'user'; roles are system, human and gpt");
    refuse("{\"conversations\": [{\"from\": \"gpt\", \"value\": \"\"}, {\"from\": \"system\", \"value\": \"\"}]}\n",
           ":1: conversations[1] has the role 'system'; only the first message may have it");
    refuse("{\"conversations\": [{\"from\": \"human\", \"value\": \"a\"}]}\n",
           ":1: the example has no token with a loss; remove it or give it a message of the assistant");
    refuse("{\"conversations\": [], \"messages\": []}\n",
           ":1: the fields fit two formats, chat and sharegpt; set data.format");
    dataset_options_t o = options();
    o.chat_template = CHAT_NONE;
    const char *chat = "{\"conversations\": []}\n";
    refuse_with(chat, strlen(chat), o, ST_USAGE,
                ": conversations need data.chat_template; set it to chatml, llama3 or alpaca");
}

static void test_lengths(void **state) {
    (void)state;
    refuse("{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"0123456789\", \"completion\": \"0123456789\"}\n",
           ":2: the example has 21 tokens, more than max_seq_length 20; shorten it, raise max_seq_length, or set "
           "data.truncation to left or right");
    refuse("{\"prompt\": \"\", \"completion\": \"\"}\n",
           ":1: the example has no token with a loss; remove it or give it a completion");
    refuse(GOOD "{\"text\": \"\"}\n", ":2: the document is empty; remove the line");
    dataset_options_t o = options();
    o.truncation = TRUNCATE_RIGHT;
    const char *lost = "{\"prompt\": \"01234567890123456789\", \"completion\": \"a\"}\n";
    refuse_with(lost, strlen(lost), o, ST_INPUT,
                ":1: the example has no token with a loss within max_seq_length; remove it or give it a completion");
    o = options();
    o.append_eos = false;
    const char *single = GOOD "{\"text\": \"a\"}\n";
    refuse_with(single, strlen(single), o, ST_INPUT,
                ":2: the example has no token with a loss; remove it or give it a longer text");
    const char *nothing = "{\"prompt\": \"\", \"completion\": \"\"}\n";
    for (int t = 0; t < TRUNCATE_COUNT; t++) {
        o.truncation = (truncation_t)t;
        refuse_with(nothing, strlen(nothing), o, ST_INPUT,
                    ":1: the example has no token with a loss; remove it or give it a completion");
    }
}

static void test_files(void **state) {
    (void)state;
    refuse("", ": the file has no examples; give one JSON object a line");
    refuse(" \n\n\t\n", ": the file has no examples; give one JSON object a line");
    char *path = scratch_path(dir, "missing.jsonl");
    assert_int_equal(open_path(path, options()), ST_INPUT);
    assert_string_equal(st_message() + strlen(path), ": cannot open: No such file or directory");
    free(path);
    assert_int_equal(open_path(dir, options()), ST_INPUT);
    assert_string_equal(st_message() + strlen(dir), ": not a regular file; name a .jsonl file");
}

static void test_settings(void **state) {
    (void)state;
    dataset_options_t o = options();
    o.packing = PACKING_WRAPPED;
    const char *pair = "{\"prompt\": \"a\", \"completion\": \"b\"}\n";
    refuse_with(pair, strlen(pair), o, ST_USAGE,
                ": packing: wrapped joins documents, but the format is prompt-completion; use best-fit");
    o = options();
    o.max_seq_length = 1;
    assert_int_equal(open_path("x", o), ST_USAGE);
    assert_string_equal(st_message(), "data.max_seq_length: 1 leaves no room to predict a token; use at least 2");
    o = options();
    o.encoder.eos = -1;
    assert_int_equal(open_path("x", o), ST_INPUT);
    assert_string_equal(st_message(), "data: the tokenizer names no EOS token; set append_eos to false and do not use "
                                      "packing: wrapped");
}

/* Many bad lines and many threads: the first in the file is the one that is named. */
static void test_first_error_wins(void **state) {
    (void)state;
    strbuf_t text = {0};
    for (int i = 1; i <= 3000; i++)
        assert_int_equal(strbuf_adds(&text, i < 1234 || i % 3 ? GOOD : "{\"text\": 1}\n"), ST_OK);
    for (int k = 0; k < 5; k++)
        refuse_with(text.data, text.len, options(), ST_INPUT, ":1236: field 'text' is a number; it must be a string");
    strbuf_release(&text);
}

static void test_file_changes(void **state) {
    (void)state;
    const char *text = GOOD "{\"text\": \"second\"}\n";
    char *path = scratch_file(dir, "b.jsonl", text, strlen(text));
    dataset_source_t source = {.path = path, .weight = 1};
    dataset_options_t o = options();
    o.sources = &source;
    dataset_t *d;
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    assert_int_equal(dataset_open(&o, &d), ST_OK);
    assert_int_equal(dataset_scan(d, 0, 2), ST_OK);
    assert_int_equal(dataset_finish(d), ST_OK);
    free(scratch_file(dir, "b.jsonl", "{\"text\": \"bad\"} \n{\"text\": \"second\"}\n", 36));
    assert_int_equal(dataset_sequence(d, 0, -1, &scratch, &s), ST_INPUT);
    assert_string_equal(st_message() + strlen(path),
                        ":1: the line changed while the file was in use; keep it unchanged during a run");
    free(scratch_file(dir, "b.jsonl", GOOD, strlen(GOOD)));
    assert_int_equal(dataset_sequence(d, 1, -1, &scratch, &s), ST_INPUT);
    assert_string_equal(st_message() + strlen(path),
                        ": the file became shorter while it was in use; keep it unchanged during a run");
    dataset_scratch_release(&scratch);
    sequence_release(&s);
    dataset_close(d);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json),         cmocka_unit_test(test_fields),
        cmocka_unit_test(test_messages),     cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_lengths),      cmocka_unit_test(test_files),
        cmocka_unit_test(test_settings),     cmocka_unit_test(test_first_error_wins),
        cmocka_unit_test(test_file_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
