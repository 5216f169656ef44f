/* Token stores: what is written is read, in both widths of ids, by many threads; every damage is found and named. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/token_store_impl.h"
#include "data/token_store_write.h"
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

#define OK(call)                                                                                                       \
    do {                                                                                                               \
        if ((call) != ST_OK) fail_msg("%s", st_message());                                                             \
    } while (0)

/* Document i of a store of n: 1 + i * 37 % 500 ids that depend on i, and metadata of mixed types and lengths. */
static int64_t length_of(int64_t i) {
    return 1 + i * 37 % 500;
}

static int32_t id_of(int64_t i, int64_t j, int token_bytes) {
    int64_t v = i * 7919 + j * 104729;
    return (int32_t)(token_bytes == 2 ? v % 65536 : v % INT32_MAX);
}

static const char *metadata_of(int64_t i) {
    static const char *const kinds[] = {
        "{}",
        "{\"url\":\"https://example.org/\xc3\xa4\",\"year\":1999}",
        "{\"year\":\"1999\",\"score\":0.25}",
        "{\"nested\":{\"a\":[1,null,true,\"\\u0000\"]},\"url\":null}",
    };
    return kinds[i % 4];
}

#define FIELDS "{\"url\":{\"null\":1,\"string\":1}}"

static token_store_info_t announce(int64_t n, int token_bytes) {
    token_store_info_t info = {.documents = n,
                               .token_bytes = token_bytes,
                               .tokenizer_fingerprint = 0x8123456789abcdef,
                               .input_fingerprint = 77,
                               .tokenizer = "models/tiny",
                               .text_field = "text",
                               .fields = FIELDS};
    for (int64_t i = 0; i < n; i++) {
        info.tokens += length_of(i);
        info.metadata_bytes += (int64_t)strlen(metadata_of(i));
    }
    return info;
}

static char *write_store(const char *name, int64_t n, int token_bytes) {
    char *path = scratch_path(dir, name);
    token_store_info_t info = announce(n, token_bytes);
    token_store_writer_t *w = NULL;
    i32buf_t ids = {0};
    OK(token_store_create(path, &info, &w));
    for (int64_t i = 0; i < n; i++) {
        i32buf_clear(&ids);
        for (int64_t j = 0; j < length_of(i); j++) OK(i32buf_push(&ids, id_of(i, j, token_bytes)));
        OK(token_store_append(w, ids.data, ids.len, metadata_of(i), strlen(metadata_of(i))));
    }
    OK(token_store_finish(w));
    i32buf_release(&ids);
    return path;
}

/* 0 when the document is read as it was written. Called by threads, so it asserts nothing. */
static int differs(const token_store_t *s, int64_t i, i32buf_t *ids, strbuf_t *json) {
    int bytes = token_store_info(s)->token_bytes;
    int64_t n = length_of(i);
    i32buf_clear(ids);
    if (token_store_length(s, i) != n || i32buf_push(ids, -7) != ST_OK || token_store_ids(s, i, 0, n, ids) != ST_OK ||
        ids->len != n + 1 || ids->data[0] != -7)
        return 1;
    for (int64_t j = 0; j < n; j++)
        if (ids->data[1 + j] != id_of(i, j, bytes)) return 1;
    i32buf_clear(ids);
    int64_t from = n / 3, part = n - from - n / 4;
    if (token_store_ids(s, i, from, part, ids) != ST_OK || ids->len != part) return 1;
    for (int64_t j = 0; j < part; j++)
        if (ids->data[j] != id_of(i, from + j, bytes)) return 1;
    return token_store_metadata(s, i, json) != ST_OK || json->len != strlen(metadata_of(i)) ||
           strcmp(json->data, metadata_of(i)) != 0;
}

static void check_all(const char *path, int64_t n, int token_bytes) {
    token_store_t *s = NULL;
    OK(token_store_open(path, &s));
    token_store_info_t want = announce(n, token_bytes);
    const token_store_info_t *info = token_store_info(s);
    assert_int_equal(info->documents, n);
    assert_int_equal(token_store_documents(s), n);
    assert_int_equal(info->tokens, want.tokens);
    assert_int_equal(info->metadata_bytes, want.metadata_bytes);
    assert_int_equal(info->token_bytes, token_bytes);
    assert_true(info->tokenizer_fingerprint == want.tokenizer_fingerprint && info->input_fingerprint == 77);
    assert_string_equal(info->tokenizer, "models/tiny");
    assert_string_equal(info->text_field, "text");
    assert_string_equal(info->fields, FIELDS);
    assert_string_equal(token_store_version(s), GRAFT_VERSION);
    assert_string_equal(token_store_path(s), path);
    int bad = 0;
#pragma omp parallel num_threads(4) reduction(+ : bad)
    {
        i32buf_t ids = {0};
        strbuf_t json = {0};
#pragma omp for schedule(dynamic, 1)
        for (int64_t k = 0; k < n; k++) bad += differs(s, (k * 101 + 3) % n, &ids, &json);
        i32buf_release(&ids);
        strbuf_release(&json);
    }
    assert_int_equal(bad, 0);
    OK(token_store_verify(s));
    token_store_close(s);
}

static void test_roundtrip(void **state) {
    (void)state;
    /* 2003 documents of 250 tokens: several blocks of everything; 101 and n are coprime, so each is read once */
    const int64_t counts[] = {1, 2, 2003};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++)
        for (int bytes = 2; bytes <= 4; bytes += 2) {
            char *path = write_store("store.h5", counts[k], bytes);
            assert_true(token_store_recognise(path));
            check_all(path, counts[k], bytes);
            free(path);
        }
    assert_int_equal(scratch_count(dir), 1); /* and nothing temporary */
}

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    assert_int_equal(fseek(f, 0, SEEK_END), 0);
    *n = (size_t)ftell(f);
    rewind(f);
    char *bytes = malloc(*n);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *n, f), *n);
    fclose(f);
    return bytes;
}

static void test_same_bytes(void **state) {
    (void)state;
    char *a = write_store("a.h5", 50, 2), *b = write_store("b.h5", 50, 2);
    size_t n, m;
    char *x = read_file(a, &n), *y = read_file(b, &m);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
    free(a);
    free(b);
}

/* Flips one bit of the file at `at`; the store must be refused at opening or by the verification. */
static const char *refusal(const char *path, int64_t at) {
    static char message[512];
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    int c = fgetc(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    fputc(c ^ 4, f);
    fclose(f);
    token_store_t *s = NULL;
    status_t st = token_store_open(path, &s);
    if (st == ST_OK) st = token_store_verify(s);
    token_store_close(s);
    snprintf(message, sizeof message, "%s", st == ST_INPUT ? st_message() : "");
    f = fopen(path, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, (long)at, SEEK_SET), 0);
    fputc(c, f);
    fclose(f);
    return message;
}

static store_layout_t layout_of(int64_t n, int token_bytes) {
    store_layout_t layout;
    char *head = NULL;
    token_store_info_t info = announce(n, token_bytes);
    OK(token_store_make_head(&info, &layout, &head));
    free(head);
    return layout;
}

static void test_flipped(void **state) {
    (void)state;
    enum { N = 700 };
    char *path = write_store("store.h5", N, 2);
    store_layout_t l = layout_of(N, 2);
    assert_true(l.stream[STORE_TOKENS].blocks > 3);
    for (int i = 0; i < STORE_STREAMS; i++) {
        const store_stream_t *s = &l.stream[i];
        char where[64];
        for (int64_t b = 0; b < s->blocks; b++) {
            int64_t end = (b + 1) * STORE_BLOCK < s->bytes ? (b + 1) * STORE_BLOCK : s->bytes;
            snprintf(where, sizeof where, "'%s': block %d of %d", token_store_stream_names[i], (int)b, (int)s->blocks);
            assert_non_null(strstr(refusal(path, s->at + b * STORE_BLOCK), where));
            assert_non_null(strstr(refusal(path, s->at + end - 1), where));
        }
        for (int64_t k = 0; k < s->blocks * 8; k += 3)
            assert_non_null(strstr(refusal(path, s->check_at + k), "checksums are damaged"));
    }
    /* the head and the footer, up to the last byte: HDF5 never sees a damaged head */
    for (int64_t at = 0; at < l.head_bytes; at += 499) assert_non_null(strstr(refusal(path, at), "head"));
    for (int64_t at = l.end; at < l.end + STORE_FOOTER_BYTES; at++) assert_non_null(strstr(refusal(path, at), path));
    check_all(path, N, 2); /* every bit was put back */
    free(path);
}

/* A damaged block does not hinder the others, and is met at the document that stands in it. */
static void test_flipped_document(void **state) {
    (void)state;
    enum { N = 700 };
    char *path = write_store("store.h5", N, 4);
    store_layout_t l = layout_of(N, 4);
    FILE *f = fopen(path, "r+b");
    assert_non_null(f);
    fseek(f, (long)(l.stream[STORE_TOKENS].at + 3 * STORE_BLOCK + 5), SEEK_SET);
    fputc(99, f);
    fclose(f);
    token_store_t *s = NULL;
    OK(token_store_open(path, &s));
    i32buf_t ids = {0};
    int64_t at = 0, refused = 0;
    for (int64_t i = 0; i < N; i++) {
        int64_t first = at, n = token_store_length(s, i);
        at += 4 * n;
        i32buf_clear(&ids);
        status_t st = token_store_ids(s, i, 0, n, &ids);
        bool inside = first < 4 * STORE_BLOCK && at > 3 * STORE_BLOCK;
        assert_int_equal(st, inside ? ST_INPUT : ST_OK);
        assert_int_equal(ids.len, inside ? 0 : n);
        refused += inside;
    }
    assert_true(refused > 10);
    assert_int_equal(token_store_verify(s), ST_INPUT);
    i32buf_release(&ids);
    token_store_close(s);
    free(path);
}

static void test_truncated(void **state) {
    (void)state;
    char *path = write_store("store.h5", 300, 2);
    size_t n;
    char *bytes = read_file(path, &n);
    for (size_t keep = 0; keep < n; keep = keep + 1 < n && keep + 997 >= n ? n - 1 : keep + 997) {
        char *cut = scratch_file(dir, "cut.h5", bytes, keep);
        token_store_t *s = NULL;
        assert_int_equal(token_store_open(cut, &s), ST_INPUT);
        assert_null(s);
        assert_non_null(strstr(st_message(), "cut.h5"));
        assert_false(token_store_recognise(cut));
        free(cut);
    }
    /* a hole in the middle, the footer still at the end */
    char *cut = scratch_path(dir, "cut.h5");
    memmove(bytes + 5000, bytes + 6000, n - 6000);
    free(scratch_file(dir, "cut.h5", bytes, n - 1000));
    token_store_t *s = NULL;
    assert_int_equal(token_store_open(cut, &s), ST_INPUT);
    free(cut);
    free(bytes);
    free(path);
}

/* Shortened while it is open: an error, not a crash. */
static void test_shortened(void **state) {
    (void)state;
    char *path = write_store("store.h5", 300, 2);
    token_store_t *s = NULL;
    OK(token_store_open(path, &s));
    assert_int_equal(truncate(path, 70000), 0);
    i32buf_t ids = {0};
    assert_int_equal(token_store_ids(s, 299, 0, token_store_length(s, 299), &ids), ST_INPUT);
    assert_non_null(strstr(st_message(), "shorter"));
    i32buf_release(&ids);
    token_store_close(s);
    free(path);
}

static void test_no_store(void **state) {
    (void)state;
    token_store_t *s = NULL;
    char *missing = scratch_path(dir, "missing.h5"), *empty = scratch_file(dir, "empty.h5", "", 0);
    char *hdf = scratch_file(dir, "other.h5", "\x89HDF\r\n\x1a\n and no more of it than this, really nothing", 52);
    const char *const paths[] = {missing, empty, hdf, dir};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
        assert_int_equal(token_store_open(paths[i], &s), ST_INPUT);
        assert_non_null(strstr(st_message(), paths[i]));
        assert_false(token_store_recognise(paths[i]));
    }
    free(missing);
    free(empty);
    free(hdf);
}

/* A writer that is not given what was announced publishes nothing. */
static void test_promises(void **state) {
    (void)state;
    int before = scratch_count(dir);
    char *path = scratch_path(dir, "never.h5");
    const int32_t ids[] = {1, 2, 70000};
    token_store_info_t info = announce(2, 2);
    info.tokens = 4;
    info.metadata_bytes = 4;
    token_store_writer_t *w = NULL;
    OK(token_store_create(path, &info, &w));
    OK(token_store_append(w, ids, 2, "{}", 2));
    assert_int_equal(token_store_append(w, ids, 3, "{}", 2), ST_INTERNAL); /* does not fit 16 bits */
    assert_int_equal(token_store_append(w, (const int32_t[]){1, 1, 1}, 3, "{}", 2), ST_INTERNAL); /* one too many */
    assert_int_equal(token_store_finish(w), ST_INTERNAL);                                         /* one too few */
    OK(token_store_create(path, &info, &w));
    token_store_abort(w);
    info.documents = 0;
    assert_int_equal(token_store_create(path, &info, &w), ST_USAGE);
    char *nowhere = scratch_path(dir, "no/such/never.h5");
    info = announce(2, 2);
    assert_int_equal(token_store_create(nowhere, &info, &w), ST_IO);
    assert_int_equal(scratch_count(dir), before);
    free(nowhere);
    free(path);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_roundtrip),        cmocka_unit_test(test_same_bytes), cmocka_unit_test(test_flipped),
        cmocka_unit_test(test_flipped_document), cmocka_unit_test(test_truncated),  cmocka_unit_test(test_shortened),
        cmocka_unit_test(test_no_store),         cmocka_unit_test(test_promises),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
