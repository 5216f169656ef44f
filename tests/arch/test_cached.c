/* The tape of generation against the plain one: sequences fed to the key/value cache in pieces give the logits that a
 * whole forward pass gives, also when they share passes and one of them rests, behind prefixes, and with prompts. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"

enum { SLOTS = 2, LENGTH = 9, PASSES = 4, PREFIX_ROWS = 4 };
static const int32_t ids[SLOTS][LENGTH] = {{3, 7, 1, 12, 5, 9, 2, 30, 4}, {8, 8, 21, 0, 17, 6, 33, 11, 10}};
/* tokens that each slot feeds in each pass; sums are LENGTH */
static const int32_t feed[PASSES][SLOTS] = {{5, 2}, {1, 0}, {0, 6}, {3, 1}};

/* Tokens [from, from + count) of a slot; the prefix goes in with the first ones. Four of them are a prompt's rows,
 * where there is a prompt. */
static void fill(build_t *b, tape_sizes_t *n, int32_t prefix, int32_t slot, int32_t from, int32_t count) {
    int32_t *id = tape_data(b->tape, b->ids), *pos = tape_data(b->tape, b->positions);
    int32_t *cu = tape_data(b->tape, b->cu), *rows = tape_data(b->tape, b->rows);
    int32_t *number = b->slot.id < 0 ? NULL : tape_data(b->tape, b->slot);
    for (int32_t k = 0; k < count; k++) {
        if (number) number[n->n] = from + k >= 1 && from + k < 5 ? (from + k + slot) % 4 : -1;
        id[n->n] = ids[slot][from + k];
        pos[n->n] = prefix + from + k;
        rows[n->m++] = (int32_t)n->n++;
    }
    cu[slot + 1] = (int32_t)n->n;
    n->s = slot + 1;
    if (!prefix) return;
    int32_t *row = tape_data(b->tape, b->prefix), *cu_prefix = tape_data(b->tape, b->cu_prefix);
    for (int32_t k = 0; from == 0 && count && k < prefix; k++)
        row[n->p++] = (prefix + slot * (prefix - 1) + k) % PREFIX_ROWS;
    cu_prefix[slot + 1] = (int32_t)n->p;
}

/* The second and third have PREFIX_ROWS prefix rows, of which every sequence gets some. */
static const char *const methods_tested[] = {
    "{type: lora, r: 2, lora_alpha: 4, target_modules: all-linear}",
    "{type: prefix_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b]}}",
    "{type: prefix_tuning, num_virtual_tokens: 4, prefix_projection: true, encoder_hidden_size: 3}",
    "{type: prompt_tuning, num_virtual_tokens: 2, position: after_bos, prompts: {field: task, values: [a, b]}}",
    "{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: LSTM, encoder_hidden_size: 3}",
};
enum { METHODS = sizeof methods_tested / sizeof *methods_tested };

static void check(const char *config, const char *method, double limit, dtype_t real, const backend_t *backend) {
    tiny_t t;
    tiny_open(&t, config, method, real);
    tiny_randomize(&t);
    const int32_t prefix = virtual_prefix(&t.layout);
    const int64_t all = SLOTS * LENGTH, vocab = t.model.config.vocab;
    assert_true(!prefix || t.layout.prefix_rows == PREFIX_ROWS);
    build_options_t o = {.tail = TAIL_LOGITS, .capacity = {all, all, SLOTS, SLOTS * prefix}};
    build_t whole, cached;
    assert_int_equal(build_open(&t.model, backend, t.hook, 1, o, &whole), ST_OK);
    o.cached = true;
    o.slots = SLOTS;
    o.places = LENGTH + 2 + prefix;
    assert_int_equal(build_open(&t.model, backend, t.hook, 1, o, &cached), ST_OK);
    tape_sizes_t n = {0};
    for (int32_t s = 0; s < SLOTS; s++) fill(&whole, &n, prefix, s, 0, LENGTH);
    tape_set_sizes(whole.tape, n);
    tape_forward(whole.tape);
    const void *want = tape_data(whole.tape, whole.logits);
    int32_t *past = tape_data(cached.tape, cached.past), done[SLOTS] = {0};
    for (int p = 0; p < PASSES; p++) {
        n = (tape_sizes_t){0};
        for (int32_t s = 0; s < SLOTS; s++) {
            past[s] = done[s] ? prefix + done[s] : 0;
            fill(&cached, &n, prefix, s, done[s], feed[p][s]);
        }
        tape_set_sizes(cached.tape, n);
        tape_forward(cached.tape);
        const void *got = tape_data(cached.tape, cached.logits);
        int64_t row = 0;
        for (int32_t s = 0; s < SLOTS; s++)
            for (int32_t k = 0; k < feed[p][s]; k++, row++) {
                const char *a = (const char *)got + (size_t)(row * vocab) * dtype_size(real);
                const char *b = (const char *)want + (size_t)((s * LENGTH + done[s] + k) * vocab) * dtype_size(real);
                double distance = tiny_distance(a, b, real, vocab);
                if (!(distance <= limit))
                    fail_msg("pass %d slot %d token %d: distance %g", p, (int)s, (int)k, distance);
            }
        for (int32_t s = 0; s < SLOTS; s++) done[s] += feed[p][s];
    }
    build_close(&cached);
    build_close(&whole);
    tiny_close(&t);
}

static void test_double(void **state) {
    (void)state;
    for (int i = 0; i < METHODS; i++) {
        check(tiny_llama, methods_tested[i], 1e-12, DT_F64, &backend_ref_f64);
        check(tiny_gpt2, methods_tested[i], 1e-12, DT_F64, &backend_ref_f64);
    }
}

static void test_float(void **state) {
    (void)state;
    for (int i = 0; i < METHODS; i++) {
        check(tiny_llama, methods_tested[i], 1e-5, DT_F32, &backend_cpu);
        check(tiny_gpt2, methods_tested[i], 1e-5, DT_F32, &backend_cpu);
    }
}

/* A backend whose attention has a largest head size says so before anything runs. */
static void test_large_heads(void **state) {
    (void)state;
    static backend_t limited;
    tiny_t t;
    build_t b;
    const build_options_t o = {.tail = TAIL_LOGITS, .capacity = {LENGTH, LENGTH, 1, 0}};
    tiny_open(&t, tiny_llama, methods_tested[0], DT_F32);
    limited = backend_cpu;
    limited.head_dim_max = t.model.config.head_dim;
    assert_int_equal(build_open(&t.model, &limited, t.hook, 1, o, &b), ST_OK);
    build_close(&b);
    limited.head_dim_max--;
    assert_int_equal(build_open(&t.model, &limited, t.hook, 1, o, &b), ST_USAGE);
    assert_non_null(strstr(st_message(), "head"));
    st_clear();
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_double), cmocka_unit_test(test_float),
                                       cmocka_unit_test(test_large_heads)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
