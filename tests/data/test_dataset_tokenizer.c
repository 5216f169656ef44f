/* Data sets through a real tokenizer: byte-level BPE with special tokens and a post-processor that adds BOS. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "data/dataset.h"
#include "data/tokenizer.h"
#include "tests/data/common_files.h"

enum { ID_AB = 256, BOS, EOS, IM_START, IM_END };

/* UTF-8 of the character by which byte-level BPE writes a byte: printable Latin-1 is itself, the rest from U+0100 on.
 */
static void add_byte_char(strbuf_t *b, int byte, int *shifted) {
    bool same = (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    int c = same ? byte : 256 + (*shifted)++;
    char utf8[2] = {(char)(0xc0 | c >> 6), (char)(0x80 | (c & 63))};
    if (c == '"' || c == '\\') assert_int_equal(strbuf_adds(b, "\\"), ST_OK);
    if (c < 128) utf8[0] = (char)c;
    assert_int_equal(strbuf_add(b, utf8, c < 128 ? 1 : 2), ST_OK);
}

static tokenizer_t *make_tokenizer(const char *dir) {
    static const char *const added[] = {"<s>", "</s>", "<|im_start|>", "<|im_end|>"};
    strbuf_t b = {0};
    int shifted = 0;
    assert_int_equal(strbuf_adds(&b, "{\"version\":\"1.0\",\"added_tokens\":["), ST_OK);
    for (int i = 0; i < 4; i++)
        assert_int_equal(strbuf_addf(&b,
                                     "%s{\"id\":%d,\"content\":\"%s\",\"single_word\":false,\"lstrip\":false,"
                                     "\"rstrip\":false,\"normalized\":false,\"special\":true}",
                                     i ? "," : "", BOS + i, added[i]),
                         ST_OK);
    assert_int_equal(strbuf_adds(&b,
                                 "],\"normalizer\":null,\"pre_tokenizer\":{\"type\":\"ByteLevel\","
                                 "\"add_prefix_space\":false,\"trim_offsets\":true,\"use_regex\":true},"
                                 "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":["
                                 "{\"SpecialToken\":{\"id\":\"<s>\",\"type_id\":0}},"
                                 "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}],\"pair\":[],\"special_tokens\":{"
                                 "\"<s>\":{\"id\":\"<s>\",\"ids\":[257],\"tokens\":[\"<s>\"]}}},"
                                 "\"decoder\":{\"type\":\"ByteLevel\",\"add_prefix_space\":true,\"trim_offsets\":true,"
                                 "\"use_regex\":true},\"model\":{\"type\":\"BPE\",\"dropout\":null,"
                                 "\"unk_token\":null,\"continuing_subword_prefix\":null,"
                                 "\"end_of_word_suffix\":null,\"fuse_unk\":false,\"byte_fallback\":false,"
                                 "\"vocab\":{"),
                     ST_OK);
    for (int i = 0; i < 256; i++) {
        assert_int_equal(strbuf_adds(&b, "\""), ST_OK);
        add_byte_char(&b, i, &shifted);
        assert_int_equal(strbuf_addf(&b, "\":%d,", i), ST_OK);
    }
    assert_int_equal(strbuf_adds(&b, "\"ab\":256},\"merges\":[\"a b\"]}}"), ST_OK);
    free(scratch_file(dir, "tokenizer.json", b.data, b.len));
    const char *config = "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    free(scratch_file(dir, "tokenizer_config.json", config, strlen(config)));
    strbuf_release(&b);
    tokenizer_t *t = NULL;
    if (tokenizer_open_dir(dir, &t) != ST_OK) fail_msg("%s", st_message());
    return t;
}

static void expect(const encoder_t *e, const char *json, const int32_t *ids, const float *weights, int64_t n) {
    const render_options_t o = {.chat_template = CHAT_CHATML, .append_eos = true};
    sequence_t s = {0};
    if (render_example(e, &o, "x", json, strlen(json), &s) != ST_OK) fail_msg("%s", st_message());
    assert_int_equal(s.ids.len, n);
    assert_memory_equal(s.ids.data, ids, (size_t)n * sizeof *ids);
    assert_memory_equal(s.weight, weights, (size_t)n * sizeof *weights);
    sequence_release(&s);
}

static void test_render(void **state) {
    (void)state;
    char *dir = scratch_create();
    tokenizer_t *t = make_tokenizer(dir);
    encoder_t e = encoder_of_tokenizer(t);
    assert_int_equal(e.n_prefix, 1);
    assert_int_equal(e.eos, EOS);
    /* prompt and completion are tokenised separately: 'a' + 'b' does not merge, one BOS in front */
    expect(&e, "{\"prompt\": \"aba\", \"completion\": \"b\\n\"}", (const int32_t[]){BOS, ID_AB, 'a', 'b', '\n', EOS},
           (const float[]){0, 0, 0, 1, 1, 1}, 6);
    expect(&e, "{\"text\": \"ab\xc3\xa9\"}", (const int32_t[]){BOS, ID_AB, 0xc3, 0xa9, EOS},
           (const float[]){0, 1, 1, 1, 1}, 5);
    expect(&e, "{\"messages\": [{\"role\": \"assistant\", \"content\": \"ab\"}]}",
           (const int32_t[]){BOS, IM_START, 'a', 's', 's', 'i', 's', 't', 'a', 'n', 't', '\n', ID_AB, IM_END, '\n'},
           (const float[]){0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0}, 15);
    tokenizer_close(t);
    scratch_remove(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_render)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
