/* Matrix products of a device against sums in double: through cuBLASLt's stand-in and through the own kernel, every
 * transposition, types, biases, odd sizes and odd addresses; the table of choices. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/cuda_on_host/products.h"

static const int sizes[][3] = {{1, 1, 1}, {5, 7, 3}, {8, 16, 24}, {65, 16, 8}, {3, 70, 17}, {16, 8, 0}};
enum { SIZES = sizeof sizes / sizeof *sizes, LARGEST = 65 * 70 };

static double wanted(const product_case_t *p, int i, int j) {
    double sum = 0;
    for (int k = 0; k < p->k; k++)
        sum += product_number(1, p->ta ? k * p->m + i : i * p->k + k) *
               product_number(2, p->tb ? j * p->k + k : k * p->n + j);
    return sum / 2 + (p->acc ? product_number(3, i * p->n + j) : 0) + (p->bias ? product_number(4, j) : 0);
}

/* The numbers are multiples of 1/16 and their sums exact in float, so only the last rounding is an error. */
static void check(device_t *d, const product_case_t *p) {
    static double c[LARGEST];
    products_run(d, p, c);
    for (int i = 0; i < p->m; i++)
        for (int j = 0; j < p->n; j++) {
            double want = wanted(p, i, j), limit = p->out == DT_BF16 ? fabs(want) / 256 : 0;
            if (!(fabs(c[i * p->n + j] - want) <= limit))
                fail_msg("[%d,%d,%d] %d%d: %g at (%d, %d), not %g", p->m, p->n, p->k, p->ta, p->tb, c[i * p->n + j], i,
                         j, want);
        }
}

static void check_all(device_t *d) {
    static const dtype_t types[][3] = {
        {DT_F32, DT_F32, DT_F32}, {DT_BF16, DT_BF16, DT_F32}, {DT_BF16, DT_BF16, DT_BF16}, {DT_BF16, DT_F32, DT_BF16}};
    for (int s = 0; s < SIZES; s++)
        for (int t = 0; t < 4; t++)
            for (int bits = 0; bits < 32; bits++) {
                const product_case_t p = {.m = sizes[s][0],
                                          .n = sizes[s][1],
                                          .k = sizes[s][2],
                                          .ta = bits & 1,
                                          .tb = bits & 2,
                                          .acc = bits & 4,
                                          .bias = bits & 8,
                                          .in = types[t][0],
                                          .out = types[t][1],
                                          .bias_type = types[t][2],
                                          .offset = bits >> 4};
                check(d, &p);
            }
}

static void test_own(void **state) {
    (void)state;
    device_t d = {.name = "without a library"};
    check_all(&d);
    assert_int_equal(products_check(&d), ST_OK);
    assert_int_equal(products_describe(&d, NULL, 0), 0);
}

static void test_library(void **state) {
    (void)state;
    device_t d = {.name = "with a library"};
    assert_int_equal(products_open(&d), ST_OK);
    check_all(&d);
    size_t length = products_describe(&d, NULL, 0);
    char *text = malloc(length + 1);
    assert_non_null(text);
    assert_int_equal(products_describe(&d, text, length + 1), length);
    assert_non_null(strstr(text, "own kernel")); /* rows of bfloat16 that are no whole pieces */
    assert_non_null(strstr(text, "8 x 16 x 24 TT bf16 to bf16 bias"));
    check_all(&d); /* nothing new */
    assert_int_equal(products_describe(&d, NULL, 0), length);
    assert_int_equal(products_check(&d), ST_OK);
    free(text);
    products_close(&d);
    assert_null(d.gemm);
}

static const product_case_t first_case = {.m = 5, .n = 7, .k = 3},
                            second_case = {.m = 8, .n = 16, .k = 24, .tb = true, .bias = true, .bias_type = DT_F32},
                            odd_case = {.m = 5, .n = 7, .k = 3, .in = DT_BF16, .out = DT_BF16, .ta = true};

static void open_with(device_t *d, const char *algorithm, const char *version) {
    *d = (device_t){.name = "with a library"};
    setenv("CUDA_ON_HOST_ALGORITHM", algorithm, 1);
    setenv("CUDA_ON_HOST_CUBLASLT", version, 1);
    assert_int_equal(products_open(d), ST_OK);
}

static void close_with_text(device_t *d, char *text, size_t size) {
    assert_true(products_describe(d, text, size) < size);
    assert_int_equal(products_check(d), ST_OK);
    products_close(d);
    unsetenv("CUDA_ON_HOST_ALGORITHM");
    unsetenv("CUDA_ON_HOST_CUBLASLT");
}

static int count(const char *text, const char *what) {
    int n = 0;
    for (; (text = strstr(text, what)); text++) n++;
    return n;
}

/* What one process chose is chosen by the next, whatever its library would say. */
static void test_adopted(void **state) {
    (void)state;
    enum { ROOM = 4096 };
    device_t d;
    char text[ROOM], again[ROOM];
    open_with(&d, "1", "7");
    check(&d, &first_case);
    check(&d, &second_case);
    check(&d, &odd_case);
    close_with_text(&d, text, sizeof text);
    assert_int_equal(count(text, "algorithm 1 "), 2);
    assert_int_equal(count(text, "own kernel"), 1);
    assert_non_null(
        strstr(text, "cuBLASLt 7\n5 x 7 x 3 NN f32 to f32, strides 3 7 7, aligned to 16 16 16: algorithm 1 "));

    open_with(&d, "0", "7");
    assert_true(products_adopt(&d, text));
    check(&d, &second_case);
    check(&d, &odd_case);
    check(&d, &first_case);
    close_with_text(&d, again, sizeof again);
    assert_string_equal(again, text);

    open_with(&d, "0", "7"); /* what is there stays */
    check(&d, &second_case);
    assert_true(products_adopt(&d, text));
    check(&d, &first_case);
    close_with_text(&d, again, sizeof again);
    assert_int_equal(count(again, "algorithm 0 "), 1);
    assert_int_equal(count(again, "algorithm 1 "), 1);

    open_with(&d, "0", "8"); /* another version */
    assert_false(products_adopt(&d, text));
    check(&d, &first_case);
    close_with_text(&d, again, sizeof again);
    assert_int_equal(count(again, "algorithm 0 "), 1);
    assert_int_equal(count(again, "algorithm 1 "), 0);

    /* an algorithm that the library does not know, and lines that are none */
    char *word = strstr(text, " code 67726166 1 ");
    assert_non_null(word);
    word[15] = '9';
    strcat(text, "5 x 7\n\nnot a product\n8 x 8 x 8 NN f32 to f32, strides 8 8 8, aligned to 16 16 16: algorithm");
    open_with(&d, "0", "7");
    assert_true(products_adopt(&d, text));
    check(&d, &first_case);
    close_with_text(&d, again, sizeof again);
    assert_int_equal(count(again, "algorithm 0 "), 1);
    assert_int_equal(count(again, "algorithm 1 "), 1);
    assert_int_equal(count(again, "\n"), 4);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_own), cmocka_unit_test(test_library),
                                       cmocka_unit_test(test_adopted)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
