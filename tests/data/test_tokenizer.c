/* Tokenizers on small hand-made files; tests/oracle/tokenizer_parity.py compares with `tokenizers` itself. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/tokenizer.h"

static char dir[64], path[96], config_path[96];

static int make_dir(void **state) {
    (void)state;
    snprintf(dir, sizeof dir, "%s/graft-tokenizer-XXXXXX", P_tmpdir);
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    snprintf(config_path, sizeof config_path, "%s/tokenizer_config.json", dir);
    return 0;
}

static int remove_dir(void **state) {
    (void)state;
    unlink(path);
    unlink(config_path);
    return rmdir(dir);
}

static void write_file(const char *name, const char *text) {
    FILE *f = fopen(name, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
    assert_int_equal(fclose(f), 0);
}

static tokenizer_t *open_text(const char *json) {
    tokenizer_t *t = NULL;
    write_file(path, json);
    status_t st = tokenizer_open_dir(dir, &t);
    if (st != ST_OK) fail_msg("%s", st_message());
    return t;
}

static void refuse_text(const char *json, const char *part) {
    tokenizer_t *t = NULL;
    write_file(path, json);
    assert_int_equal(tokenizer_open_dir(dir, &t), ST_INPUT);
    assert_null(t);
    if (!strstr(st_message(), part)) fail_msg("'%s' does not name '%s'", st_message(), part);
    assert_non_null(strstr(st_message(), path));
    st_clear();
}

#define EXPECT(t, text, special, ...)                                                                                  \
    expect(t, text, sizeof text - 1, special, (int32_t[]){__VA_ARGS__}, sizeof(int32_t[]){__VA_ARGS__} / 4)
static void expect(const tokenizer_t *t, const char *text, size_t n, bool special, const int32_t *want, size_t count) {
    i32buf_t ids = {0};
    assert_int_equal(tokenizer_encode(t, text, n, special, &ids), ST_OK);
    assert_int_equal(ids.len, count);
    assert_memory_equal(ids.data, want, count * sizeof *want);
    i32buf_release(&ids);
}

static void expect_text(const tokenizer_t *t, const int32_t *ids, int64_t n, bool skip, const char *want) {
    strbuf_t s = {0};
    assert_int_equal(tokenizer_decode(t, ids, n, skip, &s), ST_OK);
    assert_string_equal(s.data, want);
    strbuf_release(&s);
}

/* G is the letter that stands for a space, A for the first byte of U+00E9 and its alphabet character U+00C3 */
#define G "\xc4\xa0"
#define BYTE_LEVEL                                                                                                     \
    "{\"version\":\"1.0\",\"added_tokens\":[{\"id\":9,\"content\":\"<end>\",\"special\":true,\"normalized\":false},"   \
    "{\"id\":10,\"content\":\"b b\",\"special\":false,\"normalized\":false,\"lstrip\":true}],"                         \
    "\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"                       \
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"E\",\"type_id\":0}}," \
    "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"special_tokens\":{\"E\":{\"id\":\"E\",\"ids\":[9],"                \
    "\"tokens\":[\"<end>\"]}}},\"decoder\":{\"type\":\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"unk_token\":null,"   \
    "\"continuing_subword_prefix\":\"\",\"vocab\":{\"a\":0,\"b\":1,\"" G "\":2,\"ab\":3,\"" G "ab\":4,\"\xc3\x83\":5," \
    "\"\xc2\xa9\":6,\"aa\":7,\"c\":8},\"merges\":%s}}"

static tokenizer_t *open_merges(const char *merges) {
    char json[2048];
    assert_in_range(snprintf(json, sizeof json, BYTE_LEVEL, merges), 1, sizeof json - 1);
    return open_text(json);
}

static void test_byte_level(void **state) {
    (void)state;
    tokenizer_t *t = open_merges("[\"a b\",\"" G " ab\",\"a a\"]");
    EXPECT(t, "ab ab", false, 3, 4);
    EXPECT(t, "aab", false, 0, 3);  /* the lower rank goes first */
    EXPECT(t, "aaaa", false, 7, 7); /* of equal ranks the leftmost */
    EXPECT(t, "aaac", false, 7, 0, 8);
    EXPECT(t, "\xc3\xa9", false, 5, 6);
    EXPECT(t, "zab", false, 3); /* no token, no unk: dropped */
    EXPECT(t, "a<end>b", true, 9, 0, 9, 1);
    EXPECT(t, "c  b b", false, 8, 10); /* lstrip swallows the spaces */
    i32buf_t ids = {0};
    assert_int_equal(tokenizer_encode(t, "", 0, false, &ids), ST_OK);
    assert_int_equal(ids.len, 0);
    assert_int_equal(tokenizer_vocab_size(t), 11);
    assert_int_equal(tokenizer_token_id(t, "<end>"), 9);
    assert_int_equal(tokenizer_token_id(t, "no"), -1);
    assert_int_equal(tokenizer_eos(t), -1);
    int n;
    const int32_t *front = tokenizer_prefix(t, &n);
    assert_int_equal(n, 1);
    assert_int_equal(front[0], 9);
    tokenizer_close(t);
}

static void test_merge_encodings(void **state) {
    (void)state;
    tokenizer_t *a = open_merges("[\"a b\",\"" G " ab\"]"), *b = open_merges("[[\"a\",\"b\"],[\"" G "\",\"ab\"]]");
    tokenizer_t *c = open_merges("[[\"" G "\",\"ab\"],[\"a\",\"b\"]]");
    EXPECT(b, "ab ab", false, 3, 4);
    assert_true(tokenizer_fingerprint(a) == tokenizer_fingerprint(b));
    assert_true(tokenizer_fingerprint(a) != tokenizer_fingerprint(c)); /* ranks differ */
    tokenizer_close(a);
    tokenizer_close(b);
    tokenizer_close(c);
}

static void test_decode(void **state) {
    (void)state;
    tokenizer_t *t = open_merges("[]");
    expect_text(t, (int32_t[]){4, 9, 5, 6}, 4, false, " ab<end>\xc3\xa9");
    expect_text(t, (int32_t[]){4, 9, 5, 6}, 4, true, " ab\xc3\xa9");
    expect_text(t, (int32_t[]){5, 0, 6}, 3, false,
                "\xef\xbf\xbd"
                "a\xef\xbf\xbd"); /* broken UTF-8 */
    expect_text(t, NULL, 0, false, "");
    strbuf_t s = {0};
    assert_int_equal(tokenizer_decode(t, (int32_t[]){11}, 1, false, &s), ST_INPUT);
    assert_int_equal(tokenizer_decode(t, (int32_t[]){-1}, 1, false, &s), ST_INPUT);
    tokenizer_close(t);
}

static void test_invalid_text(void **state) {
    (void)state;
    static const char *const bad[] = {"ab\xff", "ab\xc3", "ab\xed\xa0\x80", "ab\xc0\x80", "ab\xf4\x90\x80\x80"};
    tokenizer_t *t = open_merges("[]");
    i32buf_t ids = {0};
    assert_int_equal(i32buf_push(&ids, 77), ST_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(tokenizer_encode(t, bad[i], strlen(bad[i]), true, &ids), ST_INPUT);
        assert_non_null(strstr(st_message(), "byte 2"));
    }
    assert_int_equal(ids.len, 1);
    i32buf_release(&ids);
    tokenizer_close(t);
}

#define MARK "\xe2\x96\x81"
#define FALLBACK                                                                                                       \
    "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true,\"normalized\":false}],\"normalizer\":{"      \
    "\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"" MARK "\"},{\"type\":\"Replace\","    \
    "\"pattern\":{\"String\":\" \"},\"content\":\"" MARK "\"}]},\"pre_tokenizer\":null,\"post_processor\":null,"       \
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":{\"String\":\"" MARK "\"},"    \
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \","        \
    "\"start\":1,\"stop\":0}]},\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"fuse_unk\":true,"                 \
    "\"byte_fallback\":true,\"vocab\":{\"<unk>\":0,\"<0xC3>\":1,\"<0xA9>\":2,\"" MARK "\":3,\"a\":4,\"" MARK "a\":5}," \
    "\"merges\":[\"" MARK " a\"]}}"

static void test_byte_fallback(void **state) {
    (void)state;
    tokenizer_t *t = open_text(FALLBACK);
    EXPECT(t, "a a", false, 5, 5);
    EXPECT(t, "\xc3\xa9", false, 3, 1, 2);
    EXPECT(t, "zza", false, 3, 0, 4);     /* fused */
    EXPECT(t, "a<unk>a", false, 5, 0, 5); /* every piece gets the prefix */
    EXPECT(t,
           "z\xc3\xa9"
           "a",
           false, 3, 1, 2, 0, 4); /* tokenizers files the waiting unk behind the bytes */
    expect_text(t, (int32_t[]){5, 1, 2, 5}, 4, false, "a\xc3\xa9 a");
    expect_text(t, (int32_t[]){5, 1, 1}, 3, false, "a\xef\xbf\xbd\xef\xbf\xbd");
    tokenizer_close(t);
}

static void test_long_word(void **state) {
    (void)state;
    tokenizer_t *t = open_text(FALLBACK);
    size_t n = 400000;
    char *text = malloc(n);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = i % 2 ? ' ' : 'a';
    i32buf_t ids = {0};
    clock_t start = clock();
    assert_int_equal(tokenizer_encode(t, text, n, false, &ids), ST_OK);
    assert_true((double)(clock() - start) / CLOCKS_PER_SEC < 4); /* one word: quadratic merging would take minutes */
    assert_int_equal(ids.len, n / 2 + 1);
    i32buf_release(&ids);
    free(text);
    tokenizer_close(t);
}

static void test_config_beside(void **state) {
    (void)state;
    write_file(config_path, "{\"eos_token\":{\"content\":\"a\"},\"bos_token\":\"" MARK "\",\"add_bos_token\":true}");
    tokenizer_t *t = open_text(FALLBACK);
    unlink(config_path);
    assert_int_equal(tokenizer_eos(t), 4);
    EXPECT(t, "a", true, 3, 5);
    tokenizer_close(t);
}

#define WITH(component)                                                                                                \
    "{" component ",\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"1\":2,\" \":3,\"\xc3\xa9\":4,"            \
    "\"e\":5,\"\xcc\x81\":6,\"ab\":7},\"merges\":[\"a b\"]}}"

static void test_components(void **state) {
    (void)state;
    tokenizer_t *t = open_text(WITH("\"normalizer\":{\"type\":\"NFC\"}"));
    EXPECT(t, "e\xcc\x81", false, 4);
    tokenizer_close(t);
    t = open_text(
        WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s\"},\"behavior\":\"Removed\"}"));
    EXPECT(t,
           "ab a\xe2\x80\x83"
           "b",
           false, 7, 0, 1);
    tokenizer_close(t);
    t = open_text(WITH(
        "\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},\"behavior\":\"MergedWithPrevious\"}"));
    EXPECT(t, "abb", false, 7, 1);
    tokenizer_close(t);
    t = open_text(
        WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"b\"},\"behavior\":\"MergedWithNext\"}"));
    EXPECT(t, "abab", false, 0, 1, 0, 1);
    tokenizer_close(t);
    t = open_text(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\s\"},\"behavior\":"
                       "\"Removed\",\"invert\":true}"));
    EXPECT(t, "a b", false, 3);
    tokenizer_close(t);
}

static void test_refused(void **state) {
    (void)state;
    refuse_text("", "line 1");
    refuse_text("[]", "not a JSON object");
    refuse_text("{\"model\":{\"type\":\"Unigram\"}}", "Unigram");
    refuse_text(WITH("\"normalizer\":{\"type\":\"Lowercase\"}"), "normalizer 'Lowercase'");
    refuse_text(WITH("\"pre_tokenizer\":{\"type\":\"Sequence\",\"pretokenizers\":[{\"type\":\"Whitespace\"}]}"),
                "'Whitespace'");
    refuse_text(WITH("\"decoder\":{\"type\":\"CTC\"}"), "decoder 'CTC'");
    refuse_text(WITH("\"post_processor\":{\"type\":\"BertProcessing\"}"), "BertProcessing");
    refuse_text(
        WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"\\\\w+\"},\"behavior\":\"Isolated\"}"),
        "\\w+");
    refuse_text(WITH("\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}"),
                "pattern '('");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}", "id of 'a'");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":99999999999},\"merges\":[]}}", "id of 'a'");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}}", "'aa' is not in");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"aa\"]}}", "merges[0]");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", "merges[0]");
    refuse_text("{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[],\"dropout\":0.1}}", "dropout");
    unlink(path);
    tokenizer_t *t = NULL;
    assert_int_equal(tokenizer_open_dir(dir, &t), ST_INPUT);
    assert_non_null(strstr(st_message(), path));
    write_file(path, "{}");
}

/* New texts get the ids behind the highest, a model's token keeps its id but is one from now on wherever it stands. */
static void test_added_later(void **state) {
    (void)state;
    static const char json[] =
        "{\"version\": \"1.0\", \"added_tokens\": [{\"id\": 6, \"content\": \"<s>\", \"special\": true}],"
        "\"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 1, \"<\": 2, \">\": 3, \"ab\": 4, \"ba\": 5},"
        "\"merges\": [\"b a\"]}}";
    static const char *const texts[] = {"<a>", "<s>", "ab", "<a>b", "<a>"};
    tokenizer_t *t = open_text(json), *plain = open_text(json);
    uint64_t before = tokenizer_fingerprint(t);
    assert_int_equal(before, tokenizer_fingerprint(plain));
    assert_int_equal(tokenizer_add_special(t, NULL, 0), ST_OK);
    assert_int_equal(before, tokenizer_fingerprint(t));
    assert_int_equal(tokenizer_add_special(t, texts, 5), ST_OK);
    assert_true(tokenizer_fingerprint(t) != before);
    assert_int_equal(tokenizer_opened_fingerprint(t), before);
    assert_int_equal(tokenizer_vocab_size(t), 9);
    assert_int_equal(tokenizer_token_id(t, "<a>"), 7);
    assert_int_equal(tokenizer_token_id(t, "<s>"), 6);
    assert_int_equal(tokenizer_token_id(t, "ab"), 4);
    assert_int_equal(tokenizer_token_id(t, "<a>b"), 8);
    EXPECT(plain, "aba<a>", false, 0, 5, 2, 0, 3);
    EXPECT(t, "aba<a>", false, 4, 0, 7);
    EXPECT(t, "<a>b<s><a><", false, 8, 6, 7, 2);
    strbuf_t text = {0};
    const int32_t ids[] = {7, 0, 4, 8};
    assert_int_equal(tokenizer_decode(t, ids, 4, false, &text), ST_OK);
    assert_string_equal(text.data, "<a> a ab <a>b"); /* without a decoder tokens are joined by spaces */
    strbuf_clear(&text);
    assert_int_equal(tokenizer_decode(t, ids, 4, true, &text), ST_OK);
    assert_string_equal(text.data, "a");
    strbuf_release(&text);
    /* the same list gives the same tokenizer, another order another one */
    assert_int_equal(tokenizer_add_special(plain, (const char *[]){"<a>b", "ab", "<a>"}, 3), ST_OK);
    assert_true(tokenizer_fingerprint(plain) != tokenizer_fingerprint(t));
    tokenizer_close(plain);
    plain = open_text(json);
    assert_int_equal(tokenizer_add_special(plain, texts, 4), ST_OK);
    assert_int_equal(tokenizer_fingerprint(plain), tokenizer_fingerprint(t));
    assert_int_equal(tokenizer_add_special(plain, (const char *[]){""}, 1), ST_USAGE);
    assert_int_equal(tokenizer_add_special(plain, (const char *[]){"\xff"}, 1), ST_USAGE);
    st_clear();
    tokenizer_close(plain);
    tokenizer_close(t);
    /* an id that the file left out */
    t = open_text(
        "{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0, \"b\": 2}, \"merges\": []}}");
    assert_int_equal(tokenizer_add_special(t, (const char *[]){"<a>"}, 1), ST_INPUT);
    assert_non_null(strstr(st_message(), "gaps"));
    st_clear();
    tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_added_later),     cmocka_unit_test(test_byte_level),
        cmocka_unit_test(test_merge_encodings), cmocka_unit_test(test_decode),
        cmocka_unit_test(test_invalid_text),    cmocka_unit_test(test_byte_fallback),
        cmocka_unit_test(test_long_word),       cmocka_unit_test(test_config_beside),
        cmocka_unit_test(test_components),      cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
