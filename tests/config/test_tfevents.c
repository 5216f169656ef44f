/* TensorBoard events: bytes as TensorBoard itself writes them, and whole files record by record. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common_scratch.h"

#include "train/run/tfevents.h"

static void assert_hex(const strbuf_t *b, const char *hex) {
    assert_int_equal(b->len * 2, strlen(hex));
    for (size_t i = 0; i < b->len; i++) {
        char byte[3];
        snprintf(byte, sizeof byte, "%02x", (unsigned char)b->data[i]);
        assert_memory_equal(byte, hex + 2 * i, 2);
    }
}

static void test_vectors(void **state) {
    (void)state;
    assert_int_equal(tfevents_crc32c("123456789", 9), 0xE3069283u);
    assert_int_equal(tfevents_mask(0xE3069283u), 0xC78AB0E5u);
    strbuf_t b = {0};
    assert_int_equal(tfevents_encode_version(1.0, &b), ST_OK);
    assert_hex(&b, "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a");
    strbuf_clear(&b);
    assert_int_equal(tfevents_encode_scalar(2.0, 5, "loss", 0.5, &b), ST_OK);
    assert_hex(&b, "1a00000000000000129bd82d09000000000000004010052a0d0a0b0a046c6f7373150000003fdb81a714");
    strbuf_release(&b);
}

/* Walks the records of a file, checks both checksums of each, returns their number. */
static int count_records(const char *path, long *sizes, int most) {
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    unsigned char head[12], data[4096], foot[4];
    int n = 0;
    while (fread(head, 1, 12, f) == 12) {
        uint32_t size = head[0] | (uint32_t)head[1] << 8, crc;
        assert_true(size <= sizeof data && n < most);
        memcpy(&crc, head + 8, 4);
        assert_int_equal(crc, tfevents_mask(tfevents_crc32c(head, 8)));
        assert_int_equal(fread(data, 1, size, f), size);
        assert_int_equal(fread(foot, 1, 4, f), 4);
        memcpy(&crc, foot, 4);
        assert_int_equal(crc, tfevents_mask(tfevents_crc32c(data, size)));
        sizes[n++] = (long)size;
    }
    fclose(f);
    return n;
}

static void test_file(void **state) {
    tfevents_t *a = NULL, *b = NULL;
    long sizes[8];
    assert_int_equal(tfevents_open(*state, 1.5e9, 0, &a), ST_OK);
    assert_int_equal(tfevents_open(*state, 1.5e9, 20, &b), ST_OK); /* the same second and process */
    assert_string_not_equal(tfevents_path(a), tfevents_path(b));
    assert_non_null(strstr(tfevents_path(a), "/events.out.tfevents.1500000000."));
    assert_int_equal(tfevents_scalar(a, 1.5e9, 1, "train/loss", 2.5), ST_OK);
    assert_int_equal(tfevents_scalar(a, 1.5e9, 300, "train/loss", NAN), ST_OK);
    assert_int_equal(tfevents_text(a, 1.5e9, 0, "config/text_summary", "seed: 1"), ST_OK);
    assert_int_equal(count_records(tfevents_path(a), sizes, 8), 4);
    assert_int_equal(sizes[2], sizes[1] + 1);                       /* step 300 takes two bytes */
    assert_int_equal(count_records(tfevents_path(b), sizes, 8), 2); /* version, session start */
    tfevents_close(a);
    tfevents_close(b);
    assert_int_equal(tfevents_open("no/such/dir", 1.5e9, 0, &a), ST_IO);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test_setup_teardown(test_file, scratch_open, scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
