/* Tokenizers out of GGUF metadata, on files written here. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/gguf.h"
#include "data/tokenizer.h"
#include "kernels/buf.h"

enum { U32 = 4, I32 = 5, F32 = 6, BOOL = 7, STR = 8, ARR = 9 };

static strbuf_t kv;
static uint64_t kv_count;

static void put(const void *p, size_t n) {
    assert_int_equal(strbuf_add(&kv, p, n), ST_OK);
}
static void put_u32(uint32_t v) {
    put(&v, sizeof v);
}
static void put_str(const char *s) {
    uint64_t n = strlen(s);
    put(&n, sizeof n);
    put(s, n);
}
static void put_key(const char *key, uint32_t type) {
    kv_count++;
    put_str(key);
    put_u32(type);
}
static void put_list(const char *key, uint32_t type, uint64_t n) {
    put_key(key, ARR);
    put_u32(type);
    put(&n, sizeof n);
}
static void put_strings(const char *key, const char *const *s, uint64_t n) {
    put_list(key, STR, n);
    for (uint64_t i = 0; i < n; i++) put_str(s[i]);
}
static void put_text(const char *key, const char *s) {
    put_key(key, STR);
    put_str(s);
}

/* Writes what put_* collected as a GGUF file without tensors and opens its tokenizer. */
static status_t open_kv(tokenizer_t **out) {
    char path[] = P_tmpdir "/graft-gguf-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "wb");
    uint32_t version = 3;
    uint64_t tensors = 0;
    fwrite("GGUF", 1, 4, f);
    fwrite(&version, sizeof version, 1, f);
    fwrite(&tensors, sizeof tensors, 1, f);
    fwrite(&kv_count, sizeof kv_count, 1, f);
    fwrite(kv.data, 1, kv.len, f);
    for (size_t pad = kv.len; (pad + 24) % 32; pad++) fputc(0, f);
    assert_int_equal(fclose(f), 0);
    strbuf_release(&kv);
    kv_count = 0;
    gguf_t *g = NULL;
    if (gguf_open(path, &g) != ST_OK) fail_msg("%s", st_message());
    status_t st = tokenizer_open_gguf(g, out);
    gguf_close(g);
    unlink(path);
    return st;
}

#define EXPECT(t, text, special, ...)                                                                                  \
    expect(t, text, special, (int32_t[]){__VA_ARGS__}, sizeof(int32_t[]){__VA_ARGS__} / sizeof(int32_t))
static void expect(const tokenizer_t *t, const char *text, bool special, const int32_t *want, size_t count) {
    i32buf_t ids = {0};
    assert_int_equal(tokenizer_encode(t, text, strlen(text), special, &ids), ST_OK);
    assert_int_equal(ids.len, count);
    assert_memory_equal(ids.data, want, count * sizeof *want);
    i32buf_release(&ids);
}

static void expect_text(const tokenizer_t *t, const int32_t *ids, int64_t n, const char *want) {
    strbuf_t s = {0};
    assert_int_equal(tokenizer_decode(t, ids, n, false, &s), ST_OK);
    assert_string_equal(s.data, want);
    strbuf_release(&s);
}

static void put_byte_level(const char *pre) {
    static const char *const tokens[] = {"<|end|>", "1", "2", "12", "a", "b", "ab", "aba", "my"};
    static const char *const merges[] = {"1 2", "a b"};
    static const int32_t types[] = {3, 1, 1, 1, 1, 1, 1, 1, 4};
    put_text("tokenizer.ggml.model", "gpt2");
    if (pre) put_text("tokenizer.ggml.pre", pre);
    put_strings("tokenizer.ggml.tokens", tokens, 9);
    put_strings("tokenizer.ggml.merges", merges, 2);
    put_list("tokenizer.ggml.token_type", I32, 9);
    put(types, sizeof types);
    put_key("tokenizer.ggml.bos_token_id", U32);
    put_u32(0);
    put_key("tokenizer.ggml.eos_token_id", U32);
    put_u32(0);
}

static void test_byte_level(void **state) {
    (void)state;
    tokenizer_t *t = NULL;
    put_byte_level("gpt-2");
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "12ab<|end|>my", true, 3, 6, 0, 8);
    assert_int_equal(tokenizer_eos(t), 0);
    assert_int_equal(tokenizer_vocab_size(t), 9);
    expect_text(t, (int32_t[]){3, 0, 6}, 3, "12<|end|>ab");
    tokenizer_close(t);

    put_byte_level("smollm");
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "12ab", true, 1, 2, 6); /* each digit alone */
    tokenizer_close(t);

    put_byte_level("llama-bpe");
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "12aba", true, 0, 3, 7); /* BOS by default; a whole word that is a token needs no merges */
    int n;
    assert_int_equal(tokenizer_prefix(t, &n)[0], 0);
    assert_int_equal(n, 1);
    tokenizer_close(t);

    put_byte_level("llama-bpe");
    put_key("tokenizer.ggml.add_bos_token", BOOL);
    put("", 1);
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "12", true, 3);
    tokenizer_close(t);
}

#define MARK "\xe2\x96\x81"
static void put_llama(bool scores) {
    static const char *const tokens[] = {"<unk>", "<s>", "</s>", "<0xC3>", "<0xA9>", MARK,
                                         "a",     "b",   "ab",   MARK "a", "z"};
    static const int32_t types[] = {2, 3, 3, 6, 6, 1, 1, 1, 1, 1, 1};
    static const float score[] = {0, 0, 0, 0, 0, -9, -9, -9, -1, -2, -9};
    put_text("tokenizer.ggml.model", "llama");
    put_strings("tokenizer.ggml.tokens", tokens, 11);
    put_list("tokenizer.ggml.token_type", I32, 11);
    put(types, sizeof types);
    if (!scores) return;
    put_list("tokenizer.ggml.scores", F32, 11);
    put(score, sizeof score);
}

static void test_sentencepiece(void **state) {
    (void)state;
    tokenizer_t *t = NULL;
    put_llama(true);
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "ab a", true, 1, 5, 8, 9); /* "ab" scores better than MARK "a" */
    EXPECT(t, "\xc3\xa9q", false, 5, 3, 4, 0);
    EXPECT(t, "a</s>a", false, 9, 2, 9);
    expect_text(t, (int32_t[]){9, 3, 4, 9}, 4, "a\xc3\xa9 a");
    assert_int_equal(tokenizer_eos(t), 2);
    tokenizer_close(t);

    put_llama(true);
    put_key("tokenizer.ggml.add_space_prefix", BOOL);
    put("", 1);
    assert_int_equal(open_kv(&t), ST_OK);
    EXPECT(t, "ab a", false, 8, 9);
    expect_text(t, (int32_t[]){9}, 1, " a");
    const uint64_t before = tokenizer_fingerprint(t); /* an added token has no score */
    assert_int_equal(tokenizer_add_special(t, (const char *[]){"<new>", "</s>"}, 2), ST_OK);
    assert_true(tokenizer_fingerprint(t) != before);
    EXPECT(t, "ab<new>b</s>", false, 8, 11, 7, 2);
    tokenizer_close(t);
}

static void refuse(const char *part) {
    tokenizer_t *t = NULL;
    assert_int_equal(open_kv(&t), ST_INPUT);
    assert_null(t);
    if (!strstr(st_message(), part)) fail_msg("'%s' does not name '%s'", st_message(), part);
}

static void test_refused(void **state) {
    (void)state;
    put_text("general.architecture", "llama");
    refuse("tokenizer.ggml.model");
    put_text("tokenizer.ggml.model", "bert");
    refuse("'bert'");
    put_byte_level("tomorrow");
    refuse("'tomorrow'");
    put_llama(false);
    refuse("scores");
    static const char *const twice[] = {"a", "a"}, *const wrong[] = {"a", "\xff"};
    put_text("tokenizer.ggml.model", "gpt2");
    put_strings("tokenizer.ggml.tokens", twice, 2);
    refuse("twice");
    put_text("tokenizer.ggml.model", "gpt2");
    put_strings("tokenizer.ggml.tokens", wrong, 2);
    refuse("not UTF-8");
    put_byte_level("gpt-2");
    put_key("tokenizer.ggml.unknown_token_id", U32);
    put_u32(1000);
    refuse("1000");
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_byte_level), cmocka_unit_test(test_sentencepiece),
                                       cmocka_unit_test(test_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
