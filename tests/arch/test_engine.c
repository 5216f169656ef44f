/* The engine against the oracle: loss and gradients of tiny models, of every LoRA matrix and of every weight, in double
 * and in float; and a packed batch against its sequences one by one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/arch/oracle_side.h"

#define LORA "{type: lora, r: 3, lora_alpha: 5, target_modules: all-linear}"
static const double lora_scale = 5.0 / 3.0;
enum { SEQS = 5 };
static const int32_t lengths[SEQS] = {7, 1, 0, 12, 5}; /* one token, no token */

#define LLAMA                                                                                                          \
    "{\"model_type\": \"llama\", \"vocab_size\": 41, \"hidden_size\": 20, \"num_hidden_layers\": 2,"                   \
    "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"head_dim\": 8, \"intermediate_size\": 18,"              \
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 500.0"

static const oracle_case_t cases[] = {
    {LLAMA ", \"tie_word_embeddings\": true}", .tied = true, .rope = {ORACLE_ROPE_DEFAULT, 500, 0, 0, 0, 0}},
    {LLAMA
     ", \"attention_bias\": true, \"mlp_bias\": true, \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 4.0}}",
     .attention_bias = true, .mlp_bias = true, .rope = {ORACLE_ROPE_LINEAR, 500, 4, 0, 0, 0}},
    {LLAMA ", \"attention_bias\": true, \"tie_word_embeddings\": true, \"rope_scaling\": {\"rope_type\": \"llama3\","
           "\"factor\": 8.0, \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0,"
           "\"original_max_position_embeddings\": 64}}",
     .tied = true, .attention_bias = true, .rope = {ORACLE_ROPE_LLAMA3, 500, 8, 1, 4, 64}},
    {tiny_gpt2, .gpt2 = true, .tied = true},
    {"{\"model_type\": \"gpt2\", \"vocab_size\": 41, \"n_embd\": 18, \"n_layer\": 3, \"n_head\": 3, \"n_positions\": "
     "16,"
     "\"n_inner\": 30, \"layer_norm_epsilon\": 1e-4, \"tie_word_embeddings\": false}",
     .gpt2 = true},
};
enum { CASES = sizeof cases / sizeof *cases };

/* |x - y| / |y| of one tensor; x has the model's type. */
static double distance(const void *x, dtype_t real, const double *y, int64_t first, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = first; i < first + n; i++) {
        double d = tiny_at(x, real, i) - y[i];
        error += d * d;
        size += y[i] * y[i];
    }
    assert_true(size > 0);
    return sqrt(error / size);
}

static void compare_gradient(const oracle_case_t *c, const backend_t *backend, const tiny_t *t, int index,
                             const void *grad, const double *want, double limit) {
    const param_t *p = &t->model.params.item[index];
    const char *own = (const char *)grad + (size_t)p->offset * dtype_size(backend->real);
    double *got = oracle_side_file(&t->model, index, own, backend->real);
    double d = distance(got, DT_F64, want + p->offset, 0, view_count(&p->value));
    if (!(d <= limit)) fail_msg("%s on %s: gradient of %s is off by %g", backend->name, c->config, p->name, d);
    free(got);
}

/* method NULL: every weight of the model. */
static void compare(const oracle_case_t *c, const char *method, const backend_t *backend, bool recompute,
                    double limit) {
    tiny_t t;
    batch_t b;
    oracle_side_t o;
    tiny_open(&t, c->config, method, backend->real);
    if (method) tiny_randomize(&t);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    oracle_side_open(&o, &t, lora_scale, 0);
    double want = oracle_side_run(&o, c, &t.model.config, &b);
    void *grad = tiny_zeros(&t);
    double loss = tiny_run(&t, (tiny_how_t){.backend = backend, .recompute = recompute}, &b, grad);
    assert_true(want > 1);
    if (!(fabs(loss - want) <= limit * want)) fail_msg("%s: loss %.17g, oracle %.17g", backend->name, loss, want);
    int compared = 0;
    for (int i = 0; i < t.model.params.count; i++) {
        if (!t.model.params.item[i].trainable) continue;
        compare_gradient(c, backend, &t, i, grad, o.grad, limit);
        compared++;
    }
    assert_int_equal(compared, method ? 2 * t.model.n_site : t.model.n_weight);
    free(grad);
    oracle_side_close(&o);
    batch_release(&b);
    tiny_close(&t);
}

static const char *const trained[] = {LORA, NULL};

static void test_double(void **state) {
    (void)state;
    for (int i = 0; i < 2 * CASES; i++) compare(&cases[i / 2], trained[i % 2], &backend_ref_f64, i / 2 % 2, 1e-9);
}

static void test_float(void **state) {
    (void)state;
    for (int i = 0; i < 2 * CASES; i++) compare(&cases[i / 2], trained[i % 2], &backend_ref_f32, false, 1e-5);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < 2 * CASES; i++) {
        compare(&cases[i / 2], trained[i % 2], &backend_cpu, false, 1e-5);
        compare(&cases[i / 2], trained[i % 2], &backend_cpu, true, 1e-5);
    }
}

/* Every weight trained: differences of the loss at three places of each tensor. A tied table is one tensor whose
 * gradient comes from both ends of the model. */
static void test_all_weights_by_differences(void **state) {
    (void)state;
    const tiny_how_t how = {.backend = &backend_ref_f64};
    const double step = 1e-5;
    for (int i = 0; i < CASES; i++) {
        tiny_t t;
        batch_t b;
        tiny_open(&t, cases[i].config, NULL, DT_F64);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        double *grad = tiny_zeros(&t), *x = t.model.params.trainable;
        tiny_run(&t, how, &b, grad);
        for (int64_t k = 0; k < t.model.params.count; k++) {
            const param_t *p = &t.model.params.item[k];
            int64_t n = view_count(&p->value), stride = n / 3;
            if ((int)k == t.model.embed) stride = t.model.config.hidden * 13 + 1; /* other tokens and columns */
            for (int64_t at = 0; at < n; at += stride) {
                double *place = x + p->offset + at, kept = *place, got = grad[p->offset + at];
                *place = kept + step;
                double above = tiny_run(&t, how, &b, NULL);
                *place = kept - step;
                double slope = (above - tiny_run(&t, how, &b, NULL)) / (2 * step);
                *place = kept;
                if (!(fabs(got - slope) <= 1e-8 * (1 + fabs(slope))))
                    fail_msg("%s[%lld] of %s: gradient %.12g, slope %.12g", p->name, (long long)at, cases[i].config,
                             got, slope);
            }
        }
        free(grad);
        batch_release(&b);
        tiny_close(&t);
    }
}

/* Sequences of a packed batch know nothing of each other. */
static void test_packed_is_sum_of_sequences(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        tiny_t t;
        batch_t b;
        const tiny_how_t how = {.backend = &backend_ref_f64};
        tiny_open(&t, cases[i].config, LORA, DT_F64);
        tiny_randomize(&t);
        double *packed = tiny_zeros(&t), *sum = tiny_zeros(&t), loss = 0;
        tiny_batch(&b, &t, lengths, SEQS, 0);
        double whole = tiny_run(&t, how, &b, packed);
        batch_release(&b);
        for (int s = 0; s < SEQS; s++) {
            tiny_batch(&b, &t, &lengths[s], 1, s);
            loss += tiny_run(&t, how, &b, sum);
            batch_release(&b);
        }
        assert_true(fabs(whole - loss) <= 1e-9 * whole);
        for (int64_t k = 0; k < t.model.params.count; k++) {
            const param_t *p = &t.model.params.item[k];
            if (p->trainable) assert_true(distance(packed, DT_F64, sum, p->offset, view_count(&p->value)) <= 1e-9);
        }
        free(packed);
        free(sum);
        tiny_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_all_weights_by_differences),
        cmocka_unit_test(test_packed_is_sum_of_sequences),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
