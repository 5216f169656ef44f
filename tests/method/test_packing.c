/* Packing is exact: a packed batch gives the loss and the gradient of its examples one by one, whatever a method puts
 * into the sequences. One table for all methods, each on every family; in double the sums agree to rounding, on the CPU
 * to a few 1e-6 (docs/numerics.md). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"

static const char *const methods_tested[] = {
    "{type: lora, r: 4, target_modules: all-linear}",
    "{type: prompt_tuning, num_virtual_tokens: 3}",
    "{type: prompt_tuning, num_virtual_tokens: 2, position: after_bos}",
    "{type: prompt_tuning, num_virtual_tokens: 5, position: after_prompt}",
    "{type: prompt_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c]}}",
    "{type: p_tuning, num_virtual_tokens: 3, encoder_hidden_size: 10}",
    "{type: p_tuning, num_virtual_tokens: 2, position: after_prompt, prompts: {field: task, values: [a, b]}}",
    "{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: LSTM, encoder_hidden_size: 6}",
    "{type: prefix_tuning, num_virtual_tokens: 3}",
    "[{type: p_tuning, num_virtual_tokens: 3, encoder_hidden_size: 5}, {type: prefix_tuning, num_virtual_tokens: 2}]",
    "{type: demix, domains: {field: domain, values: [a, b, c]}}",
    "{type: demix, domains: {field: domain, values: [a, b]}}",
    "{type: prefix_tuning, num_virtual_tokens: 2, prefix_projection: true}",
    "{type: prefix_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c]}}",
    ("{type: control_prefix, num_virtual_tokens: 1, prefix_projection: true, encoder_hidden_size: 7, attributes: "
     "[{field: task, values: [a, b], num_virtual_tokens: 2}]}"),
    ("{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: task, values: [a, b], num_virtual_tokens: 2},"
     "{field: style, values: [x, y, z], num_virtual_tokens: 1}]}"),
};
static const char *const families_tested[] = {tiny_llama, tiny_gpt2};
enum {
    METHODS = sizeof methods_tested / sizeof *methods_tested,
    FAMILIES = sizeof families_tested / sizeof *families_tested,
    SEQS = 5
};
static const int32_t lengths[SEQS] = {9, 1, 14, 2, 6};

static double one_by_one(tiny_t *t, tiny_how_t how, void *grad) {
    double loss = 0;
    for (int s = 0; s < SEQS; s++) {
        batch_t b;
        tiny_batch(&b, t, &lengths[s], 1, s);
        loss += tiny_run(t, how, &b, grad);
        batch_release(&b);
    }
    return loss;
}

/* Against the sequences one by one, whose loss is `sum` and gradient `alone`. */
static void compare_batch(tiny_t *t, tiny_how_t how, const batch_t *b, double sum, const void *alone, double limit) {
    const char *method = t->method->section.type, *kind = b->share ? "with slots held once" : "packed";
    void *packed = tiny_zeros(t);
    double together = tiny_run(t, how, b, packed);
    double off = tiny_distance(packed, alone, how.backend->real, t->model.params.n_trainable);
    if (!(fabs(together - sum) <= limit * sum))
        fail_msg("%s on %s: loss %.17g %s, %.17g one by one", method, how.backend->name, together, kind, sum);
    if (!(off <= limit)) fail_msg("%s on %s: gradients differ by %g %s", method, how.backend->name, off, kind);
    free(packed);
}

static void compare(const char *method, const char *family, const backend_t *backend, bool recompute, double limit) {
    tiny_t t;
    batch_t b, shared;
    const tiny_how_t how = {.backend = backend, .recompute = recompute};
    tiny_open(&t, family, method, backend->real);
    tiny_randomize(&t);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    tiny_batch_shared(&shared, &t, lengths, SEQS, 0);
    void *alone = tiny_zeros(&t);
    double sum = one_by_one(&t, how, alone);
    compare_batch(&t, how, &b, sum, alone, limit);
    compare_batch(&t, how, &shared, sum, alone, limit);
    int32_t once = virtual_shared(&t.layout);
    assert_int_equal(shared.n_seqs, SEQS + (once > 0));
    assert_int_equal(shared.n_tokens, b.n_tokens - (once ? (SEQS - 1) * once : 0));
    free(alone);
    batch_release(&b);
    batch_release(&shared);
    tiny_close(&t);
}

static void test_double(void **state) {
    (void)state;
    for (int i = 0; i < METHODS * FAMILIES; i++)
        compare(methods_tested[i / FAMILIES], families_tested[i % FAMILIES], &backend_ref_f64, i % 2, 1e-13);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < METHODS * FAMILIES; i++) {
        compare(methods_tested[i / FAMILIES], families_tested[i % FAMILIES], &backend_cpu, false, 5e-6);
        compare(methods_tested[i / FAMILIES], families_tested[i % FAMILIES], &backend_cpu, true, 5e-6);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_double), cmocka_unit_test(test_cpu)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
