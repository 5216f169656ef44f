/* GGUF: every metadata type, every planted corruption, every truncation, every flipped byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "common_files.h"
#include "data/gguf.h"
#include "kernels/buf.h"

/* Places in the sample file that the corruptions overwrite. */
typedef enum mark {
    START,
    VERSION,
    N_TENSORS,
    N_KV,
    ARCH_KEY,
    ARCH_TYPE,
    ARCH_VALUE,
    ALIGN_TYPE,
    ALIGN_VALUE,
    LIST_TYPE,
    LIST_ITEMS,
    FLAG_VALUE,
    NUMBERS_COUNT,
    HALF_KEY,
    ONE_NAME,
    ONE_DIMS,
    ONE_NE,
    ONE_TYPE,
    TWO_NAME,
    TWO_NE,
    TWO_OFFSET,
    DATA,
    MARKS
} mark_t;

typedef struct sample {
    strbuf_t b;
    size_t at[MARKS];
} sample_t;

static void put(sample_t *s, const void *p, size_t n) {
    assert_int_equal(strbuf_add(&s->b, p, n), ST_OK);
}
static void put32(sample_t *s, uint32_t v) {
    put(s, &v, sizeof v);
}
static void put64(sample_t *s, uint64_t v) {
    put(s, &v, sizeof v);
}
static void mark(sample_t *s, mark_t m) {
    s->at[m] = s->b.len;
}
static void put_str(sample_t *s, const char *text) {
    put64(s, strlen(text));
    put(s, text, strlen(text));
}
static void put_key(sample_t *s, const char *key, uint32_t type) {
    put_str(s, key);
    put32(s, type);
}
static void pad(sample_t *s) {
    while (s->b.len % 32) put(s, "", 1);
}

static sample_t build(void) {
    sample_t s = {0};
    const float half = 0.5f;
    const double wide = -1e300;
    put(&s, "GGUF", 4);
    mark(&s, VERSION);
    put32(&s, 3);
    mark(&s, N_TENSORS);
    put64(&s, 2);
    mark(&s, N_KV);
    put64(&s, 12);
    mark(&s, ARCH_KEY);
    put_str(&s, "general.architecture");
    mark(&s, ARCH_TYPE);
    put32(&s, 8);
    mark(&s, ARCH_VALUE);
    put_str(&s, "llama");
    put_str(&s, "general.alignment");
    mark(&s, ALIGN_TYPE);
    put32(&s, 4);
    mark(&s, ALIGN_VALUE);
    put32(&s, 32);
    put_key(&s, "a.list", 9);
    mark(&s, LIST_TYPE);
    put32(&s, 8);
    put64(&s, 2);
    mark(&s, LIST_ITEMS);
    put_str(&s, "x");
    put_str(&s, "\"y\n");
    put_key(&s, "a.flag", 7);
    mark(&s, FLAG_VALUE);
    put(&s, "\1", 1);
    put_key(&s, "a.numbers", 9);
    put32(&s, 5);
    mark(&s, NUMBERS_COUNT);
    put64(&s, 2);
    put32(&s, 7);
    put32(&s, (uint32_t)-2);
    mark(&s, HALF_KEY);
    put_key(&s, "a.half", 6);
    put(&s, &half, sizeof half);
    put_key(&s, "a.wide", 12);
    put(&s, &wide, sizeof wide);
    put_key(&s, "a.u64", 10);
    put64(&s, UINT64_MAX);
    put_key(&s, "a.i8", 1);
    put(&s, "\xff", 1);
    put_key(&s, "a.u8", 0);
    put(&s, "\xff", 1);
    put_key(&s, "a.i16", 3);
    put(&s, "\xfe\xff", 2);
    put_key(&s, "a.i64", 11);
    put64(&s, (uint64_t)-5);

    mark(&s, ONE_NAME);
    put_str(&s, "one");
    mark(&s, ONE_DIMS);
    put32(&s, 2);
    mark(&s, ONE_NE);
    put64(&s, 64);
    put64(&s, 2);
    mark(&s, ONE_TYPE);
    put32(&s, 8);
    put64(&s, 0);
    mark(&s, TWO_NAME);
    put_str(&s, "two");
    put32(&s, 1);
    mark(&s, TWO_NE);
    put64(&s, 3);
    put32(&s, 0);
    mark(&s, TWO_OFFSET);
    put64(&s, 160);
    pad(&s);
    mark(&s, DATA);
    for (int block = 0; block < 4; block++) {
        put(&s, "\x00\x34", 2); /* 0.25 */
        for (int i = 0; i < 32; i++) put(&s, &(int8_t){(int8_t)(i - 8 * block)}, 1);
    }
    pad(&s);
    put(&s, (const float[]){1, 2, 3}, 12);
    pad(&s);
    return s;
}

static status_t try_bytes(const char *dir, const void *bytes, size_t n, gguf_t **out) {
    char *path = scratch_file(dir, "sample.gguf", bytes, n);
    st_clear();
    status_t st = gguf_open(path, out);
    if (st != ST_OK) assert_non_null(strstr(st_message(), path)); /* the message names the file */
    free(path);
    return st;
}

static void test_reads_everything(void **state) {
    sample_t s = build();
    gguf_t *g = NULL;
    assert_int_equal(try_bytes(*state, s.b.data, s.b.len, &g), ST_OK);
    int64_t i = 0;
    double f = 0;
    bool flag = false;
    const char *text;
    size_t n;
    assert_true(gguf_get_str(g, "general.architecture", &text, &n) && n == 5 && memcmp(text, "llama", 5) == 0);
    assert_true(gguf_get_i64(g, "general.alignment", &i) && i == 32);
    assert_true(gguf_get_bool(g, "a.flag", &flag) && flag);
    assert_true(gguf_get_f64(g, "a.half", &f) && f == 0.5);
    assert_true(gguf_get_f64(g, "a.wide", &f) && f == -1e300);
    assert_true(gguf_get_i64(g, "a.i8", &i) && i == -1);
    assert_true(gguf_get_i64(g, "a.u8", &i) && i == 255);
    assert_true(gguf_get_i64(g, "a.i16", &i) && i == -2);
    assert_true(gguf_get_i64(g, "a.i64", &i) && i == -5);
    assert_true(gguf_get_f64(g, "a.i64", &f) && f == -5);
    assert_true(gguf_get_f64(g, "a.u64", &f) && f == 0x1p64);
    assert_false(gguf_get_i64(g, "a.u64", &i)); /* does not fit */
    assert_false(gguf_get_i64(g, "a.half", &i));
    assert_false(gguf_get_i64(g, "a.numbers", &i)); /* an array is not a number */
    assert_false(gguf_get_str(g, "a.half", &text, &n));
    assert_false(gguf_get_i64(g, "absent", &i));
    assert_true(gguf_has(g, "a.i8"));
    assert_false(gguf_has(g, "a.i"));
    assert_int_equal(gguf_arr_count(g, "a.list"), 2);
    assert_int_equal(gguf_arr_count(g, "a.i8"), -1);
    assert_true(gguf_arr_str(g, "a.list", 1, &text, &n) && n == 3 && memcmp(text, "\"y\n", 3) == 0);
    assert_false(gguf_arr_str(g, "a.list", 2, &text, &n));
    assert_true(gguf_arr_i64(g, "a.numbers", 1, &i) && i == -2);
    assert_true(gguf_arr_f64(g, "a.numbers", 0, &f) && f == 7);
    assert_false(gguf_arr_i64(g, "a.numbers", -1, &i));
    strbuf_t b = {0};
    assert_int_equal(gguf_kv_count(g), 12);
    assert_string_equal(gguf_kv_key(g, 2), "a.list");
    assert_int_equal(gguf_kv_text(g, 2, &b), ST_OK);
    assert_string_equal(b.data, "[\"x\", \"\\\"y\\x0a\"]");
    strbuf_release(&b);

    assert_int_equal(gguf_tensor_count(g), 2);
    const tensor_info_t *one = gguf_tensor_at(g, 0), *two = gguf_tensor_at(g, 1);
    assert_string_equal(one->name, "one");
    assert_int_equal(one->store, STORE_Q8_0);
    assert_true(one->rank == 2 && one->dim[0] == 2 && one->dim[1] == 64); /* torch order */
    assert_int_equal(one->bytes, 136);
    float y[128];
    assert_int_equal(tensor_info_read_f32(one, 0, 128, y), ST_OK);
    assert_true(y[0] == 0 && y[31] == 7.75f && y[32] == -2 && y[127] == 1.75f);
    assert_int_equal(tensor_info_read_f32(one, 96, 32, y), ST_OK);
    assert_true(y[0] == -6);
    assert_int_equal(tensor_info_read_f32(one, 16, 32, y), ST_INTERNAL);
    assert_int_equal(tensor_info_read_f32(two, 1, 2, y), ST_OK);
    assert_true(y[0] == 2 && y[1] == 3);
    gguf_close(g);
    strbuf_release(&s.b);
}

#define U32(v)                                                                                                         \
    { (v) & 255, ((v) >> 8) & 255, ((v) >> 16) & 255, ((v) >> 24) & 255 }
#define BIG                                                                                                            \
    { 0, 0, 0, 0, 0, 1 }
#define MINUS                                                                                                          \
    { 255, 255, 255, 255, 255, 255, 255, 255 }

static const struct {
    mark_t mark;
    int shift; /* bytes behind the mark */
    uint8_t bytes[8];
    int n;
    const char *expect;
} corruptions[] = {
    {START, 0, "X", 1, "magic"},
    {VERSION, 0, U32(1), 4, "version"},
    {VERSION, 0, U32(4), 4, "version"},
    {VERSION, 0, U32(0x03000000), 4, "endianness"},
    {N_TENSORS, 0, MINUS, 8, "number of tensors is negative"},
    {N_TENSORS, 0, BIG, 8, "more tensors"},
    {N_TENSORS, 0, U32(1), 4, "belong to no tensor"},
    {N_TENSORS, 0, U32(0), 4, "no tensor"},
    {N_TENSORS, 0, U32(3), 4, "tensor 2"},
    {N_KV, 0, MINUS, 8, "metadata pairs is negative"},
    {N_KV, 0, BIG, 8, "more metadata"},
    {N_KV, 0, U32(13), 4, ""},
    {N_KV, 0, U32(11), 4, ""},
    {ARCH_KEY, 0, U32(0), 4, "key 0 of the metadata: name is empty"},
    {ARCH_KEY, 0, BIG, 8, "name is too long"},
    {ARCH_KEY, 0, U32(60000), 4, "beyond the end"},
    {ARCH_KEY, 9, {0}, 1, "NUL"},
    {ARCH_KEY, 9, {0xff}, 1, "UTF-8"},
    {ARCH_TYPE, 0, U32(13), 4, "general.architecture: has an unknown value type"},
    {ARCH_TYPE, 0, MINUS, 4, "general.architecture"},
    {ARCH_VALUE, 0, BIG, 8, "general.architecture: string is longer"},
    {ARCH_VALUE, 0, U32(100000), 4, "general.architecture: ends beyond"},
    {ALIGN_TYPE, 0, U32(5), 4, "general.alignment: is not an unsigned"},
    {ALIGN_VALUE, 0, U32(0), 4, "general.alignment: is not a power of two"},
    {ALIGN_VALUE, 0, U32(48), 4, "general.alignment: is not a power of two"},
    {ALIGN_VALUE, 0, U32(64), 4, "two: offset"},
    {LIST_TYPE, 0, U32(9), 4, "a.list: is an array of arrays"},
    {LIST_TYPE, 4, BIG, 8, "a.list: has more than 2^30"},
    {LIST_TYPE, 4, U32(5000), 4, "a.list: ends beyond"},
    {LIST_ITEMS, 0, U32(9999), 4, "a.list: ends beyond"},
    {FLAG_VALUE, 0, {2}, 1, "a.flag: holds a bool"},
    {NUMBERS_COUNT, 0, U32(0x10000), 4, "a.numbers: ends beyond"},
    {HALF_KEY, 8, "a.flag", 6, "a.flag: appears twice"},
    {ONE_NAME, 0, U32(64), 4, "tensor 0 of the table: name is too long"},
    {ONE_NAME, 0, U32(0), 4, "tensor 0 of the table: name is empty"},
    {ONE_DIMS, 0, U32(5), 4, "one: has more than 4 dimensions"},
    {ONE_NE, 0, MINUS, 8, "one: has a negative dimension"},
    {ONE_NE, 7, {0x7f}, 1, "one: size overflows"},
    {ONE_NE, 0, U32(63), 4, "one: rows are not whole blocks"},
    {ONE_NE, 8, U32(3), 4, "two: offset"},
    {ONE_TYPE, 0, U32(4), 4, "one: tensor type 4 is unknown"},
    {ONE_TYPE, 0, U32(99), 4, "one: tensor type 99 is unknown"},
    {ONE_TYPE, 0, U32(0), 4, "two: offset"},
    {TWO_NAME, 8, "one", 3, "one: appears twice"},
    {TWO_NE, 0, U32(400), 4, "two: lies beyond the end"},
    {TWO_NE, 0, U32(9), 4, "two: lies beyond the end"},
    {TWO_OFFSET, 0, U32(164), 4, "two: offset"},
    {TWO_OFFSET, 0, U32(0), 4, "two: offset"},
};

static void test_corruptions(void **state) {
    for (size_t i = 0; i < sizeof corruptions / sizeof corruptions[0]; i++) {
        sample_t s = build();
        memcpy(s.b.data + s.at[corruptions[i].mark] + corruptions[i].shift, corruptions[i].bytes,
               (size_t)corruptions[i].n);
        gguf_t *g = NULL;
        status_t st = try_bytes(*state, s.b.data, s.b.len, &g);
        if (st != ST_INPUT || !strstr(st_message(), corruptions[i].expect))
            fail_msg("row %zu: expected '%s', got %d '%s'", i, corruptions[i].expect, st, st_message());
        strbuf_release(&s.b);
    }
}

static void test_truncations_and_surplus(void **state) {
    sample_t s = build();
    gguf_t *g = NULL;
    for (size_t n = 0; n < s.b.len; n++) assert_int_equal(try_bytes(*state, s.b.data, n, &g), ST_INPUT);
    assert_non_null(strstr(st_message(), "two: is not followed by its padding"));
    put(&s, "", 1);
    assert_int_equal(try_bytes(*state, s.b.data, s.b.len, &g), ST_INPUT);
    strbuf_release(&s.b);
}

/* What is accepted after a flip must still be readable in full. */
static void test_flipped_bytes(void **state) {
    sample_t s = build();
    for (size_t i = 0; i < s.at[DATA]; i++) {
        gguf_t *g = NULL;
        s.b.data[i] = (char)(s.b.data[i] ^ (1 << i % 8));
        status_t st = try_bytes(*state, s.b.data, s.b.len, &g);
        s.b.data[i] = (char)(s.b.data[i] ^ (1 << i % 8));
        assert_true(st == ST_OK || st == ST_INPUT);
        if (st != ST_OK) continue;
        strbuf_t text = {0};
        for (int64_t k = 0; k < gguf_kv_count(g); k++) assert_int_equal(gguf_kv_text(g, k, &text), ST_OK);
        for (int64_t k = 0; k < gguf_tensor_count(g); k++) {
            const tensor_info_t *t = gguf_tensor_at(g, k);
            float *y = calloc((size_t)tensor_info_count(t) + 1, sizeof *y);
            tensor_info_read_f32(t, 0, tensor_info_count(t), y);
            free(y);
        }
        strbuf_release(&text);
        gguf_close(g);
    }
    strbuf_release(&s.b);
}

static void test_not_a_file(void **state) {
    gguf_t *g = NULL;
    assert_int_equal(gguf_open(*state, &g), ST_INPUT); /* a directory */
    char *path = scratch_path(*state, "absent.gguf");
    assert_int_equal(gguf_open(path, &g), ST_INPUT);
    assert_non_null(strstr(st_message(), path));
    free(path);
}

static int setup(void **state) {
    *state = scratch_create();
    return 0;
}

static int teardown(void **state) {
    scratch_remove(*state);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_everything),
        cmocka_unit_test(test_corruptions),
        cmocka_unit_test(test_truncations_and_surplus),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_not_a_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
