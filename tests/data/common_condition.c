#include "tests/data/common_condition.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/data/common_bytes.h"
#include "tests/data/common_dataset.h"
#include "tests/data/common_files.h"

char *condition_dir;

int condition_setup(void **state) {
    (void)state;
    condition_dir = scratch_create();
    return 0;
}

int condition_teardown(void **state) {
    (void)state;
    scratch_remove(condition_dir);
    return 0;
}

void condition_ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

condition_t *condition_template(const condition_slot_t *slots, int n, uint64_t seed) {
    condition_t *c;
    condition_ok(condition_open(slots, n, &(condition_use_t){.seed = seed}, &c));
    return c;
}

dataset_options_t condition_options(const condition_t *c, bool bos) {
    return (dataset_options_t){.encoder = bytes_encoder(bos), .max_seq_length = 8, .append_eos = true, .condition = c};
}

void expect_sequence_at(const dataset_t *d, int64_t i, int64_t place, const char *want, const char *weights) {
    dataset_scratch_t scratch = {0};
    sequence_t s = {0};
    char got[128] = "", weight[128] = "";
    condition_ok(dataset_sequence(d, i, place, &scratch, &s));
    for (int64_t k = 0; k < s.ids.len; k++) {
        got[k] = s.ids.data[k] == BYTE_EOS ? '.' : s.ids.data[k] == BYTE_BOS ? '^' : (char)s.ids.data[k];
        weight[k] = s.weight[k] == 0 ? '0' : s.weight[k] == 1 ? '1' : '?';
    }
    assert_string_equal(got, want);
    assert_string_equal(weight, weights);
    sequence_release(&s);
    dataset_scratch_release(&scratch);
}

void expect_sequence(const dataset_t *d, int64_t i, const char *want, const char *weights) {
    int32_t loss = 0;
    for (const char *w = weights; *w; w++) loss += *w == '1';
    expect_sequence_at(d, i, -1, want, weights);
    assert_int_equal(dataset_sequence_tokens(d, i), strlen(want));
    assert_int_equal(dataset_sequence_loss_tokens(d, i), loss);
}

dataset_t *condition_dataset(const char *text, dataset_options_t o) {
    dataset_t *d = NULL;
    condition_ok(text_dataset(condition_dir, &text, 1, o, &d));
    return d;
}
