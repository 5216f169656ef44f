/* Data sets: what is rendered, cut and refused. A byte is a token here, so lengths can be read off the text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/batch.h"
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
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

static dataset_options_t options(bool bos) {
    return (dataset_options_t){
        .encoder = bytes_encoder(bos), .max_seq_length = 1000, .chat_template = CHAT_CHATML, .append_eos = true};
}

static dataset_t *open_text(const char *text, dataset_options_t o) {
    dataset_t *d = NULL;
    if (text_dataset(dir, &text, 1, o, &d) != ST_OK) fail_msg("%s", st_message());
    return d;
}

/* Writes a sequence as text: special tokens as <B> <E> ..., a token without loss followed by '. */
static void show(const sequence_t *s, strbuf_t *out) {
    static const char *const names[] = {"<B>", "<E>", "<im>", "</im>", "<begin>", "<h>", "</h>", "<eot>"};
    strbuf_clear(out);
    for (int64_t i = 0; i < s->ids.len; i++) {
        int32_t id = s->ids.data[i];
        if (id >= BYTE_BOS)
            assert_int_equal(strbuf_adds(out, names[id - BYTE_BOS]), ST_OK);
        else
            assert_int_equal(strbuf_addf(out, "%c", id == '\n' ? '/' : id), ST_OK);
        assert_true(s->weight[i] == 0.0f || s->weight[i] == 1.0f);
        if (s->weight[i] == 0.0f) assert_int_equal(strbuf_adds(out, "'"), ST_OK);
    }
}

static void expect(const dataset_t *d, int64_t i, const char *want) {
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    strbuf_t text = {0};
    if (dataset_sequence(d, i, -1, &scratch, &s) != ST_OK) fail_msg("%s", st_message());
    show(&s, &text);
    assert_string_equal(text.data, want);
    assert_int_equal(s.ids.len, dataset_sequence_tokens(d, i));
    int64_t weighted = 0;
    for (int64_t k = 0; k < s.ids.len; k++) weighted += s.weight[k] > 0;
    assert_int_equal(weighted, dataset_sequence_loss_tokens(d, i));
    strbuf_release(&text);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
}

static void expect_one(const char *text, dataset_options_t o, const char *want) {
    dataset_t *d = open_text(text, o);
    assert_int_equal(dataset_sequences(d), 1);
    expect(d, 0, want);
    dataset_close(d);
}

static void test_formats(void **state) {
    (void)state;
    dataset_options_t o = options(false), bos = options(true);
    expect_one("{\"text\": \"abc\"}\n", o, "a'bc<E>");
    expect_one("{\"text\": \"abc\"}", bos, "<B>'abc<E>");
    expect_one("{\"prompt\": \"ab\", \"completion\": \"cd\", \"id\": 7}", o, "a'b'cd<E>");
    expect_one("{\"prompt\": \"\", \"completion\": \"cd\"}", o, "c'd<E>");
    expect_one("{\"prompt\": \"ab\", \"completion\": \"\"}", bos, "<B>'a'b'<E>");
    expect_one(
        "{\"messages\": [{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": \"ok\"}]}", o,
        "<im>'u's'e'r'/'u'</im>'/'<im>'a's's'i's't'a'n't'/'ok</im>/'");
    o.train_on_inputs = true;
    o.append_eos = false;
    expect_one("{\"prompt\": \"ab\", \"completion\": \"cd\"}", o, "a'bcd");
    expect_one("\xef\xbb\xbf\n \t\r\n{\"text\": \"ab\"}\r\n\n", o, "a'b");
}

static void test_nul_is_text(void **state) {
    (void)state;
    dataset_t *d = open_text("{\"text\": \"a\\u0000b\"}", options(false));
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    assert_int_equal(dataset_sequence(d, 0, -1, &scratch, &s), ST_OK);
    assert_int_equal(s.ids.len, 4);
    assert_int_equal(s.ids.data[1], 0);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
    dataset_close(d);
}

static void test_alpaca(void **state) {
    (void)state;
    const char *without = "{\"instruction\": \"Add\", \"output\": \"3\"}";
    const char *with = "{\"instruction\": \"Add\", \"input\": \"1 2\", \"output\": \"3\"}";
    const char *want[] = {
        "Below is an instruction that describes a task. Write a response that appropriately completes "
        "the request.\n\n### Instruction:\nAdd\n\n### Response:\n3",
        "Below is an instruction that describes a task, paired with an input that provides further "
        "context. Write a response that appropriately completes the request.\n\n### "
        "Instruction:\nAdd\n\n### Input:\n1 2\n\n### Response:\n3"};
    encoder_t e = bytes_encoder(false);
    render_options_t o = {.append_eos = true};
    for (int k = 0; k < 2; k++) {
        const char *json = k ? with : without;
        sequence_t s = {0};
        assert_int_equal(render_example(&e, &o, "x:1", json, strlen(json), &s), ST_OK);
        int64_t n = (int64_t)strlen(want[k]);
        assert_int_equal(s.format, FORMAT_ALPACA);
        assert_int_equal(s.ids.len, n + 1);
        assert_int_equal(s.n_prompt, n - 1);
        for (int64_t i = 0; i < n; i++) {
            assert_int_equal(s.ids.data[i], want[k][i]);
            assert_true(s.weight[i] == (i + 1 < n ? 0.0f : 1.0f));
        }
        assert_int_equal(s.ids.data[n], BYTE_EOS);
        assert_true(s.weight[n] == 1.0f);
        sequence_release(&s);
    }
}

static void test_chat_templates(void **state) {
    (void)state;
    const char *line =
        "{\"messages\": [{\"role\": \"system\", \"content\": \"S\"}, {\"role\": \"user\", \"content\": \"a\"},"
        "{\"role\": \"assistant\", \"content\": \" b\\n\"}, {\"role\": \"user\", \"content\": \"c\"},"
        "{\"role\": \"assistant\", \"content\": \"d\"}]}";
    dataset_options_t o = options(false);
    o.chat_template = CHAT_LLAMA3;
    const char *llama3 =
        "<h>'s'y's't'e'm'</h>'/'/'S'<eot>'<h>'u's'e'r'</h>'/'/'a'<eot>'<h>'a's's'i's't'a'n't'</h>'/'/'b"
        "<eot><h>'u's'e'r'</h>'/'/'c'<eot>'<h>'a's's'i's't'a'n't'</h>'/'/'d<eot>";
    char want[512];
    snprintf(want, sizeof want, "<begin>'%s", llama3); /* the template's own BOS where the tokenizer has none */
    expect_one(line, o, want);
    dataset_options_t bos = o;
    bos.encoder = bytes_encoder(true);
    snprintf(want, sizeof want, "<B>'%s", llama3); /* never two */
    expect_one(line, bos, want);
    o.chat_template = CHAT_ALPACA;
    expect_one(line, o,
               "S'/'/'#'#'#' 'I'n's't'r'u'c't'i'o'n':'/'a'/'/'#'#'#' 'R'e's'p'o'n's'e':'/' b/<E>/'/'#'#'#' "
               "'I'n's't'r'u'c't'i'o'n':'/'c'/'/'#'#'#' 'R'e's'p'o'n's'e':'/'d<E>");
}

/* The same conversation in the spelling of ShareGPT becomes the same sequence. */
static void test_sharegpt(void **state) {
    (void)state;
    const char *line =
        "{\"conversations\": [{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"ok\"}]}";
    dataset_options_t o = options(false);
    expect_one(line, o, "<im>'u's'e'r'/'u'</im>'/'<im>'a's's'i's't'a'n't'/'ok</im>/'");
    o.format = FORMAT_SHAREGPT;
    o.chat_template = CHAT_LLAMA3; /* with the template's own BOS, as for chat */
    expect_one("{\"conversations\": [{\"from\": \"system\", \"value\": \"S\"}, {\"from\": \"gpt\", \"value\": \"d\"}]}",
               o, "<begin>'<h>'s'y's't'e'm'</h>'/'/'S'<eot>'<h>'a's's'i's't'a'n't'</h>'/'/'d<eot>");
    data_format_t found;
    assert_true(data_format_find("sharegpt", &found));
    assert_int_equal(found, FORMAT_SHAREGPT);
    assert_string_equal(data_format_name(found), "sharegpt");
}

static void test_long_documents(void **state) {
    (void)state;
    dataset_options_t o = options(false);
    o.max_seq_length = 4;
    dataset_t *d = open_text("{\"text\": \"abcdefgh\"}\n{\"text\": \"ABC\"}\n{\"text\": \"0123456789\"}\n", o);
    assert_int_equal(dataset_sequences(d), 2 + 1 + 3); /* the EOS of the first would stand alone: nothing to predict */
    expect(d, 0, "a'bcd");
    expect(d, 1, "e'fgh");
    expect(d, 2, "A'BC<E>");
    expect(d, 5, "8'9<E>");
    expect(d, 3, "0'123");
    assert_int_equal(dataset_max_tokens(d), 4);
    dataset_close(d);
    o.encoder = bytes_encoder(true);
    d = open_text("{\"text\": \"abcde\"}\n{\"text\": \"AB\"}\n", o);
    assert_int_equal(dataset_sequences(d), 3);
    expect(d, 0, "<B>'abc");
    expect(d, 1, "<B>'de<E>");
    expect(d, 2, "<B>'AB<E>");
    dataset_close(d);
}

static void test_wrapped(void **state) {
    (void)state;
    const char *text = "{\"text\": \"abcdef\"}\n{\"text\": \"g\"}\n{\"text\": \"h\"}\n{\"text\": \"ijk\"}\n";
    dataset_options_t o = options(false);
    o.max_seq_length = 4;
    o.packing = PACKING_WRAPPED;
    dataset_t *d = open_text(text, o); /* abcd ef.g .h.i jk. */
    assert_int_equal(dataset_sequences(d), 4);
    expect(d, 0, "a'bcd");
    expect(d, 1, "e'f<E>g");
    expect(d, 2, "<E>'h<E>i");
    expect(d, 3, "j'k<E>");
    dataset_close(d);
    o.append_eos = false; /* joined all the same, but nothing at the end */
    d = open_text(text, o);
    expect(d, 1, "e'f<E>g");
    expect(d, 3, "j'k");
    dataset_close(d);
    o.encoder = bytes_encoder(true);
    d = open_text(text, o); /* abc def .g. h.i jk */
    assert_int_equal(dataset_sequences(d), 5);
    expect(d, 2, "<B>'<E>g<E>");
    expect(d, 4, "<B>'jk");
    dataset_close(d);
}

static void test_truncation(void **state) {
    (void)state;
    const char *text = "{\"prompt\": \"abc\", \"completion\": \"def\"}";
    dataset_options_t o = options(true);
    o.max_seq_length = 6;
    o.truncation = TRUNCATE_LEFT;
    expect_one(text, o, "<B>'c'def<E>");
    o.truncation = TRUNCATE_RIGHT;
    expect_one(text, o, "<B>'a'b'c'de");
    o.encoder = bytes_encoder(false);
    o.max_seq_length = 3;
    o.truncation = TRUNCATE_LEFT;
    expect_one(text, o, "e'f<E>");
}

static void test_sources_have_their_own_format(void **state) {
    (void)state;
    const char *docs = "{\"text\": \"ab\"}\n{\"text\": \"c\"}\n";
    char *a = scratch_file(dir, "docs.jsonl", docs, strlen(docs));
    const char *pairs = "{\"prompt\": \"p\", \"completion\": \"q\"}\n";
    char *b = scratch_file(dir, "pairs.jsonl", pairs, strlen(pairs));
    dataset_source_t sources[] = {{a, 1}, {b, 0.5}};
    dataset_options_t o = options(false);
    o.sources = sources;
    o.n_sources = 2;
    dataset_t *d;
    assert_int_equal(dataset_open(&o, &d), ST_OK);
    assert_int_equal(dataset_scan(d, 2, 3), ST_OK); /* another rank's share arrives through dataset_lengths */
    int32_t *lengths;
    int64_t n;
    dataset_lengths(d, &lengths, &n);
    assert_int_equal(n, 6);
    assert_int_equal(lengths[0], -1);
    const int32_t others[] = {3, 2, 2, 1};
    memcpy(lengths, others, sizeof others);
    assert_int_equal(dataset_finish(d), ST_OK);
    expect(d, 0, "a'b<E>");
    expect(d, 2, "p'q<E>");
    int64_t first;
    double weight;
    dataset_source_range(d, 1, &first, &n, &weight);
    assert_int_equal(first, 2);
    assert_int_equal(n, 1);
    assert_true(weight == 0.5);
    dataset_close(d);
    free(a);
    free(b);
}

static void test_batch(void **state) {
    (void)state;
    dataset_t *d = open_text(
        "{\"prompt\": \"ab\", \"completion\": \"c\"}\n{\"prompt\": \"d\", \"completion\": \"ef\"}\n", options(false));
    batch_t b;
    assert_int_equal(batch_init(&b, 8), ST_OK);
    const int64_t sequences[] = {9, 1, 9, 0}, index[] = {1, 3};
    assert_int_equal(batch_fill(&b, d, sequences, -1, index, 2), ST_OK); /* d e f <E>, a b c <E> */
    assert_int_equal(b.n_tokens, 8);
    assert_int_equal(b.n_seqs, 2);
    assert_int_equal(b.n_loss, 5);
    assert_true(b.weight_sum == 5);
    const int32_t ids[] = {'d', 'e', 'f', BYTE_EOS, 'a', 'b', 'c', BYTE_EOS}, positions[] = {0, 1, 2, 3, 0, 1, 2, 3};
    const int32_t rows[] = {0, 1, 2, 5, 6}, targets[] = {'e', 'f', BYTE_EOS, 'c', BYTE_EOS}, cu[] = {0, 4, 8};
    assert_memory_equal(b.ids, ids, sizeof ids);
    assert_memory_equal(b.positions, positions, sizeof positions);
    assert_memory_equal(b.loss_row, rows, sizeof rows);
    assert_memory_equal(b.targets, targets, sizeof targets);
    assert_memory_equal(b.cu_seqlens, cu, sizeof cu);
    assert_true(b.token_key[1] == (UINT64_C(1) << 32 | 1));
    assert_true(b.token_key[7] == (UINT64_C(3) << 32 | 3));
    batch_release(&b);
    assert_int_equal(batch_init(&b, 7), ST_OK);
    assert_int_equal(batch_fill(&b, d, sequences, -1, index, 2), ST_INTERNAL);
    batch_release(&b);
    dataset_close(d);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formats),        cmocka_unit_test(test_nul_is_text),
        cmocka_unit_test(test_alpaca),         cmocka_unit_test(test_chat_templates),
        cmocka_unit_test(test_long_documents), cmocka_unit_test(test_wrapped),
        cmocka_unit_test(test_truncation),     cmocka_unit_test(test_sources_have_their_own_format),
        cmocka_unit_test(test_batch),          cmocka_unit_test(test_sharegpt),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
