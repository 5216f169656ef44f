/* Dequantisation, safetensors, base-model directories and atomic publication. */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "common_files.h"
#include "kernels/half.h"
#include "data/publish.h"
#include "data/safetensors.h"
#include "data/weights.h"
#include "kernels/buf.h"

/* ---- dequantisation: one block of bytes (37 i + 11) & 255 with d = 0.25 and m or dmin = 0.125 ---- */

#define NONE 1e9 /* past the end of a block of 32 */
static const struct {
    store_t store;
    int elements, bytes, d_at, m_at; /* m_at -1: none */
    double y0, y1, y17, y31, y32, y100, y200, y255, sum, weighted;
} vectors[] = {
    {STORE_Q8_0, 32, 34, 0, -1, 21.25, 30.5, -13.5, -12, NONE, NONE, NONE, NONE, -44, -2020},
    {STORE_Q4_0, 32, 18, 0, -1, -0.75, 0.5, -0.25, 0, NONE, NONE, NONE, NONE, -5.25, -129.5},
    {STORE_Q4_1, 32, 20, 0, 2, 3.875, 1.125, 3.125, 3.125, NONE, NONE, NONE, NONE, 65.25, 1061.75},
    {STORE_Q5_0, 32, 22, 0, -1, 2.25, -0.5, 0, 0.25, NONE, NONE, NONE, NONE, 3.75, 28},
    {STORE_Q5_1, 32, 24, 0, 2, 4.875, 6.125, 1.375, 1.375, NONE, NONE, NONE, NONE, 130.25, 2041.25},
    {STORE_Q2_K, 256, 84, 80, 82, 8.25, 0, -0.375, -0.375, 1.875, 5, 2, 1.125, 514.75, 60782.5},
    {STORE_Q3_K, 256, 110, 108, -1, 20.25, -27, 32, 16, -5.5, 0, 6.25, 10.5, 239.5, 44286.25},
    {STORE_Q4_K, 256, 144, 0, 2, 78.875, -6.375, -6.375, 40.125, 2, 23.75, 34.625, 12.125, 13610, 1893210},
    {STORE_Q5_K, 256, 176, 0, 2, 202.875, -6.375, -6.375, 40.125, 28, 58.75, 34.625, 27.125, 29054, 4006862},
    {STORE_Q6_K, 256, 210, 208, -1, -357.75, 424, 128, -24, 57.75, 630.75, 272.25, -15, 1153, 196105},
};

static void fill_block(uint8_t *b, size_t row) {
    for (int i = 0; i < vectors[row].bytes; i++) b[i] = (uint8_t)(37 * i + 11);
    b[vectors[row].d_at] = 0;
    b[vectors[row].d_at + 1] = 0x34;
    if (vectors[row].m_at >= 0) {
        b[vectors[row].m_at] = 0;
        b[vectors[row].m_at + 1] = 0x30;
    }
}

static void test_block_vectors(void **state) {
    (void)state;
    for (size_t r = 0; r < sizeof vectors / sizeof vectors[0]; r++) {
        const int n = vectors[r].elements, at[8] = {0, 1, 17, 31, 32, 100, 200, 255};
        const double *expect = &vectors[r].y0;
        uint8_t block[2 * 210 + 1];
        float y[512];
        fill_block(block + 1, r); /* +1: the data may have any alignment */
        fill_block(block + 1 + vectors[r].bytes, r);
        tensor_info_t t = {.name = "t", .store = vectors[r].store, .dtype = "?", .rank = 1, .file = "f"};
        t.dim[0] = 2 * n;
        t.data = block + 1;
        assert_int_equal(tensor_info_read_f32(&t, 0, 2 * n, y), ST_OK);
        double sum = 0, weighted = 0;
        for (int i = 0; i < n; i++) {
            sum += (double)y[i];
            weighted += (i + 1) * (double)y[i];
            assert_true(y[i] == y[n + i]);
        }
        for (int k = 0; k < 8 && at[k] < n; k++)
            if ((double)y[at[k]] != expect[k]) fail_msg("row %zu: y[%d] = %g, not %g", r, at[k], y[at[k]], expect[k]);
        if (sum != vectors[r].sum || weighted != vectors[r].weighted) fail_msg("row %zu: %g %g", r, sum, weighted);
    }
}

static void test_half_precision(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float f = f32_from_f16((uint16_t)h), b = f32_from_bf16((uint16_t)h);
        if (isnan(f))
            assert_true((h & 0x7c00) == 0x7c00 && (h & 0x3ff));
        else
            assert_int_equal(f16_from_f32(f), h);
        if (!isnan(b)) assert_int_equal(bf16_from_f32(b), h);
        if (isnan(b)) assert_true(isnan(f32_from_bf16(bf16_from_f32(b))));
        /* every midpoint of finite neighbours goes to the even one, and anything beyond it to the nearer one */
        if ((h & 0x7fff) >= 0x7bff) continue;
        float mid = (f + f32_from_f16((uint16_t)(h + 1))) / 2;
        assert_int_equal(f16_from_f32(mid), h & 1 ? h + 1 : h);
        assert_int_equal(f16_from_f32(nextafterf(mid, f)), h);
        assert_int_equal(f16_from_f32(nextafterf(mid, h & 0x8000 ? -INFINITY : INFINITY)), h + 1);
    }
    assert_true(f32_from_f16(0x3555) == 0.333251953125f && f32_from_f16(1) == 0x1p-24f);
    assert_int_equal(f16_from_f32(65519.0f), 0x7bff);
    assert_int_equal(f16_from_f32(65520.0f), 0x7c00);
    assert_int_equal(f16_from_f32(-1e30f), 0xfc00);
    assert_true(isnan(f32_from_f16(f16_from_f32(NAN))));
    assert_int_equal(bf16_from_f32(half_from_bits(0x3f808000)), 0x3f80);
    assert_int_equal(bf16_from_f32(half_from_bits(0x3f818000)), 0x3f82);
}

/* ---- safetensors ---- */

static const float sample[6] = {1, -2.5f, 0.333333343f, 65504, 1e-8f, -0.0f};

static void test_round_trip(void **state) {
    const safetensors_out_t out[] = {
        {"half", STORE_F16, 2, {2, 3}, sample}, {"b \"quoted\" \xc3\xa9", STORE_F32, 3, {1, 2, 3}, sample},
        {"brain", STORE_BF16, 1, {6}, sample},  {"a.scalar", STORE_F32, 0, {0}, sample},
        {"empty", STORE_F32, 2, {0, 5}, NULL},
    };
    char *path = scratch_path(*state, "x.safetensors");
    assert_int_equal(safetensors_write(path, out, 5), ST_OK);
    safetensors_t *s = NULL;
    assert_int_equal(safetensors_open(path, &s), ST_OK);
    assert_int_equal(safetensors_count(s), 5);
    const char *order[] = {"a.scalar", "b \"quoted\" \xc3\xa9", "empty", "brain", "half"};
    float y[6];
    for (int i = 0; i < 5; i++) assert_string_equal(safetensors_at(s, i)->name, order[i]);
    const tensor_info_t *full = safetensors_at(s, 1), *brain = safetensors_at(s, 3), *half = safetensors_at(s, 4);
    assert_true(full->rank == 3 && full->dim[2] == 3 && full->bytes == 24 && (uintptr_t)full->data % 4 == 0);
    assert_int_equal(tensor_info_read_f32(full, 0, 6, y), ST_OK);
    assert_memory_equal(y, sample, sizeof sample);
    assert_int_equal(tensor_info_read_f32(full, 4, 2, y), ST_OK);
    assert_true(y[0] == 1e-8f);
    assert_int_equal(tensor_info_read_f32(full, 4, 3, y), ST_INTERNAL);
    assert_int_equal(tensor_info_count(safetensors_at(s, 0)), 1);
    assert_int_equal(tensor_info_count(safetensors_at(s, 2)), 0);
    assert_int_equal(tensor_info_read_f32(safetensors_at(s, 2), 0, 0, y), ST_OK);
    assert_int_equal(tensor_info_read_f32(brain, 0, 6, y), ST_OK);
    assert_true(y[1] == -2.5f && y[2] == 0.333984375f && y[3] == 65536);
    assert_int_equal(tensor_info_read_f32(half, 0, 6, y), ST_OK);
    assert_true(y[2] == 0.333251953125f && y[3] == 65504 && y[4] == 0 && signbit(y[5]));
    safetensors_close(s);
    const safetensors_out_t twice[] = {{"a", STORE_F16, 1, {1}, sample}, {"a", STORE_F32, 1, {1}, sample}};
    assert_int_equal(safetensors_write(path, twice, 2), ST_INTERNAL);
    assert_int_equal(safetensors_open(path, &s), ST_OK); /* the old file is untouched */
    safetensors_close(s);
    free(path);
}

static char *put_safetensors(const char *dir, const char *name, const char *header, size_t data) {
    strbuf_t b = {0};
    uint64_t n = strlen(header);
    strbuf_add(&b, &n, sizeof n);
    strbuf_adds(&b, header);
    for (size_t i = 0; i < data; i++) strbuf_add(&b, "", 1);
    char *path = scratch_file(dir, name, b.data, b.len);
    strbuf_release(&b);
    return path;
}

#define T(name, dtype, shape, offsets)                                                                                 \
    "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static const struct {
    const char *header;
    size_t data;
    const char *expect; /* NULL: valid */
} headers[] = {
    {"{" T("a", "F32", "[2]", "[0,8]") "}", 8, NULL},
    {"{" T("a", "F32", "[2]", "[0,8]") "}      ", 8, NULL},
    {"{" T("b", "F16", "[1]", "[8,10]") "," T("a", "F32", "[2]", "[0,8]") "}", 10, NULL},
    {"{\"__metadata__\":{\"format\":\"pt\"}}", 0, NULL},
    {"{" T("a", "F4", "[4]", "[0,2]") "}", 2, NULL},
    {"", 8, "header length is zero"},
    {"[]", 0, "does not start"},
    {" {}", 0, "does not start"},
    {"{}\n", 0, "does not end"},
    {"{} x}", 0, "header"},
    {"{\"a\":", 0, "does not end"},
    {"{" T("a\xff", "F32", "[2]", "[0,8]") "}", 8, "UTF-8"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("a", "F32", "[2]", "[0,8]") "}", 8, "duplicate"},
    {"{\"a\\u0000\":1}", 0, "header"},
    {"{\"a\":1}", 0, "'a': its header entry is not an object"},
    {"{" T("a", "F33", "[2]", "[0,8]") "}", 8, "'a': unknown dtype 'F33'"},
    {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8, "'a': has no 'dtype'"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8, "'a': 'shape'"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8, "'a': 'data_offsets'"},
    {"{" T("a", "F32", "[2.0]", "[0,8]") "}", 8, "'a': 'shape'"},
    {"{" T("a", "F32", "[-2]", "[0,8]") "}", 8, "'a': 'shape'"},
    {"{" T("a", "F32", "[\"2\"]", "[0,8]") "}", 8, "'a': 'shape'"},
    {"{" T("a", "F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]") "}", 8, "'a': has more than 8"},
    {"{" T("a", "F32", "[4294967296,4294967296]", "[0,8]") "}", 8, "'a': size overflows"},
    {"{" T("a", "F32", "[1152921504606846976]", "[0,8]") "}", 8, "'a': size overflows"},
    {"{" T("a", "F32", "[99999999999999999999]", "[0,8]") "}", 8, "header"},
    {"{" T("a", "F32", "[3]", "[0,8]") "}", 8, "'a': shape and data_offsets disagree"},
    {"{" T("a", "F4", "[3]", "[0,2]") "}", 2, "'a': does not fill whole bytes"},
    {"{" T("a", "F32", "[2]", "[8,0]") "}", 8, "'a': 'data_offsets'"},
    {"{" T("a", "F32", "[2]", "[-8,0]") "}", 8, "'a': 'data_offsets'"},
    {"{" T("a", "F32", "[2]", "[0,8,9]") "}", 8, "'a': 'data_offsets'"},
    {"{" T("a", "F32", "[2]", "[4,12]") "}", 12, "'a': leaves a hole"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[4,12]") "}", 12, "'b': leaves a hole"},
    {"{" T("a", "F32", "[2]", "[0,8]") "," T("b", "F32", "[2]", "[0,8]") "}", 8, "'b': leaves a hole"},
    {"{" T("a", "F32", "[2]", "[0,8]") "}", 7, "'a': lies beyond"},
    {"{" T("a", "F32", "[2]", "[0,8]") "}", 9, "belong to no tensor"},
    {"{\"__metadata__\":{\"format\":1}}", 0, "__metadata__: value of 'format'"},
    {"{\"__metadata__\":[]}", 0, "__metadata__"},
};

static void test_headers(void **state) {
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        char *path = put_safetensors(*state, "h.safetensors", headers[i].header, headers[i].data);
        safetensors_t *s = NULL;
        st_clear();
        status_t st = safetensors_open(path, &s);
        bool right = headers[i].expect
                         ? st == ST_INPUT && strstr(st_message(), headers[i].expect) && strstr(st_message(), path)
                         : st == ST_OK;
        if (!right) fail_msg("row %zu %s: %d '%s'", i, headers[i].header, st, st_message());
        if (st == ST_OK) safetensors_close(s);
        free(path);
    }
}

static void test_lengths(void **state) {
    const uint64_t lengths[] = {0, 1, 8, 100000001, UINT64_MAX, UINT64_MAX - 7};
    safetensors_t *s = NULL;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        char *path = scratch_file(*state, "l.safetensors", &lengths[i], i ? 8 : 0);
        assert_int_equal(safetensors_open(path, &s), ST_INPUT);
        free(path);
    }
    assert_int_equal(safetensors_open(*state, &s), ST_INPUT);
}

/* ---- base-model directories ---- */

static void put_text(const char *dir, const char *name, const char *text) {
    free(scratch_file(dir, name, text, strlen(text)));
}

static void put_shards(const char *dir, const char *index) {
    free(put_safetensors(dir, "s1.safetensors", "{" T("a", "F32", "[2]", "[0,8]") "}", 8));
    free(put_safetensors(dir, "s2.safetensors", "{" T("b", "F16", "[1]", "[0,2]") "}", 2));
    put_text(dir, "model.safetensors.index.json", index);
    put_text(dir, "config.json", "{\"model_type\":\"llama\"}");
}

static void test_directory(void **state) {
    (void)state;
    char *dir = scratch_create();
    put_shards(dir, "{\"metadata\":{},\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}");
    weights_t *w = NULL;
    assert_int_equal(weights_open(dir, &w), ST_OK);
    assert_int_equal(weights_count(w), 2);
    assert_string_equal(weights_find(w, "b")->dtype, "F16");
    assert_null(weights_find(w, "c"));
    assert_null(weights_gguf(w));
    assert_string_equal(json_string_value(json_object_get(weights_config(w), "model_type")), "llama");
    uint64_t sharded = weights_fingerprint(w);
    weights_forget(w);
    assert_true(weights_fingerprint(w) == sharded); /* read once more from the file */
    weights_close(w);

    /* the same tensors in one file have the same fingerprint, another bit has not */
    char *path = put_safetensors(dir, "model.safetensors",
                                 "{" T("b", "F16", "[1]", "[0,2]") "," T("a", "F32", "[2]", "[2,10]") "}", 10);
    assert_int_equal(weights_open(dir, &w), ST_OK);
    assert_true(weights_fingerprint(w) == sharded);
    weights_close(w);
    FILE *f = fopen(path, "r+b");
    assert_int_equal(fseek(f, -1, SEEK_END), 0);
    fputc(1, f);
    fclose(f);
    assert_int_equal(weights_open(dir, &w), ST_OK);
    assert_true(weights_fingerprint(w) != sharded);
    weights_close(w);
    free(path);
    scratch_remove(dir);
}

static const struct {
    const char *index, *expect;
} indexes[] = {
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"../s2.safetensors\"}}",
     "'b': '../s2.safetensors' is not a plain"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"/etc/passwd\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"..\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"\"}}", "not a plain file name"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":3}}", "'b' names no file"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s3.safetensors\"}}", "s3.safetensors"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s1.safetensors\"}}", "'b' is not in s1.safetensors"},
    {"{\"weight_map\":{\"a\":\"s2.safetensors\",\"b\":\"s1.safetensors\"}}", "is not in s2.safetensors"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"c\":\"s2.safetensors\"}}", "'c' is not in"},
    {"{\"weight_map\":{\"a\":\"s1.safetensors\",\"a\":\"s2.safetensors\"}}", "duplicate"},
    {"{\"weight_map\":{}}", "weight_map"},
    {"{\"weight_map\":[]}", "weight_map"},
    {"[]", "not a JSON object"},
    {"{", "not valid JSON"},
};

static void test_bad_directories(void **state) {
    (void)state;
    char *dir = scratch_create();
    weights_t *w = NULL;
    for (size_t i = 0; i < sizeof indexes / sizeof indexes[0]; i++) {
        put_shards(dir, indexes[i].index);
        st_clear();
        status_t st = weights_open(dir, &w);
        if (st != ST_INPUT || !strstr(st_message(), indexes[i].expect) || !strstr(st_message(), dir))
            fail_msg("row %zu: %d '%s'", i, st, st_message());
    }
    free(put_safetensors(dir, "s2.safetensors", "{" T("a", "F32", "[2]", "[0,8]") "}", 8));
    put_text(dir, "model.safetensors.index.json",
             "{\"weight_map\":{\"a\":\"s1.safetensors\",\"b\":\"s2.safetensors\"}}");
    assert_int_equal(weights_open(dir, &w), ST_INPUT);
    assert_non_null(strstr(st_message(), "tensor 'a' is also in"));
    put_text(dir, "config.json", "[]");
    assert_int_equal(weights_open(dir, &w), ST_INPUT);
    assert_non_null(strstr(st_message(), "config.json"));
    scratch_remove(dir);

    dir = scratch_create();
    assert_int_equal(weights_open(dir, &w), ST_INPUT); /* nothing in it */
    put_text(dir, "config.json", "{}");
    assert_int_equal(weights_open(dir, &w), ST_INPUT);
    assert_non_null(strstr(st_message(), "model.safetensors"));
    scratch_remove(dir);
    assert_int_equal(weights_open("no/such/model", &w), ST_INPUT);
}

/* ---- publication ---- */

static void test_publish(void **state) {
    (void)state;
    char *dir = scratch_create(), *path = scratch_path(dir, "f"), *lost = scratch_path(dir, "no/f");
    publish_t p;
    assert_int_equal(publish_bytes(path, "old", 3), ST_OK);
    assert_int_equal(publish_begin(path, &p), ST_OK);
    assert_int_equal(publish_write(&p, "new contents", 12), ST_OK);
    assert_int_equal(scratch_count(dir), 2);
    struct stat info;
    assert_true(stat(path, &info) == 0 && info.st_size == 3); /* not yet */
    publish_abort(&p);
    assert_int_equal(scratch_count(dir), 1);
    assert_int_equal(publish_begin(path, &p), ST_OK);
    assert_int_equal(publish_write(&p, "new contents", 12), ST_OK);
    assert_int_equal(publish_commit(&p), ST_OK);
    assert_true(stat(path, &info) == 0 && info.st_size == 12);
    assert_int_equal(scratch_count(dir), 1);
    assert_int_equal(publish_begin(lost, &p), ST_IO);
    assert_non_null(strstr(st_message(), lost));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(mkdir(path, 0777), 0); /* a directory cannot be replaced by a file */
    assert_int_equal(publish_bytes(path, "x", 1), ST_IO);
    assert_int_equal(scratch_count(dir), 1);
    rmdir(path);
    free(path);
    free(lost);
    scratch_remove(dir);
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
        cmocka_unit_test(test_block_vectors),   cmocka_unit_test(test_half_precision),
        cmocka_unit_test(test_round_trip),      cmocka_unit_test(test_headers),
        cmocka_unit_test(test_lengths),         cmocka_unit_test(test_directory),
        cmocka_unit_test(test_bad_directories), cmocka_unit_test(test_publish),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
