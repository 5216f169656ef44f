/* Memory for arrays of numbers: zeros at an aligned place, also where other numbers were before. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/buf.h"

enum { ALIGN = 256 };

static bool is_zero(const unsigned char *p, size_t n) {
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

static void pages_are_zero_and_aligned(void **state) {
    (void)state;
    const size_t mib = 1 << 20;
    const size_t size[] = {0, 1, 255, 256, 257, mib, 8 * mib - 1, 8 * mib, 8 * mib + 1, 10 * mib + 7, 64 * mib};
    for (int turn = 0; turn < 3; turn++) {
        void *p[sizeof size / sizeof *size];
        for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
            assert_int_equal(buf_pages(&p[i], size[i], "test"), ST_OK);
            assert_int_equal((uintptr_t)p[i] % ALIGN, 0);
            assert_true(is_zero(p[i], size[i]));
            memset(p[i], 0xa5, size[i]); /* the next turn may get the same memory */
        }
        for (size_t i = 0; i < sizeof size / sizeof *size; i++) free(p[i]);
    }
}

static void too_much_is_an_error(void **state) {
    (void)state;
    void *p = NULL;
    assert_int_equal(buf_pages(&p, SIZE_MAX - 5, "everything"), ST_NOMEM);
    assert_non_null(strstr(st_message(), "everything"));
    assert_null(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pages_are_zero_and_aligned),
        cmocka_unit_test(too_much_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
