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
#include "tests/common/tiny_model.h"
#include "tests/oracle/oracle.h"

#define LORA "{type: lora, r: 3, lora_alpha: 5, target_modules: all-linear}"
static const double lora_scale = 5.0 / 3.0;
enum { SEQS = 5 };
static const int32_t lengths[SEQS] = {7, 1, 0, 12, 5}; /* one token, no token */

#define LLAMA                                                                                                          \
    "{\"model_type\": \"llama\", \"vocab_size\": 41, \"hidden_size\": 20, \"num_hidden_layers\": 2,"                   \
    "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"head_dim\": 8, \"intermediate_size\": 18,"              \
    "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"rope_theta\": 500.0"

typedef struct engine_case {
    const char *config;
    bool gpt2, tied, attention_bias, mlp_bias;
    oracle_rope_t rope;
} engine_case_t;

static const engine_case_t cases[] = {
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

/* Every parameter of the model as the oracle wants it: doubles, Hugging Face names and layouts. */
typedef struct oracle_side {
    oracle_tensor_t *tensor;
    int64_t n;
    double *grad; /* places as in the trainable blob, matrices as in the file */
} oracle_side_t;

static bool stored_turned(const model_t *m, int index) {
    for (int64_t i = 0; i < m->n_weight; i++)
        if (m->weight[i].param == index) return m->weight[i].flags & WEIGHT_TRANSPOSED;
    return false;
}

/* Between the engine's layout and the file's, in which some matrices are turned. */
static double *to_file(const model_t *m, int index, const void *data, dtype_t real) {
    const view_t *v = &m->params.item[index].value;
    int64_t n = view_count(v), rows = v->dim[0], cols = n / rows;
    bool turn = stored_turned(m, index);
    double *out = calloc((size_t)n, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < n; i++) out[turn ? i % cols * rows + i / cols : i] = tiny_at(data, real, i);
    return out;
}

static void oracle_side_open(oracle_side_t *o, const tiny_t *t) {
    static const char prefix[] = "base_model.model.";
    const param_set_t *s = &t->model.params;
    o->n = s->count;
    o->tensor = calloc((size_t)s->count, sizeof *o->tensor);
    o->grad = calloc((size_t)s->n_trainable, sizeof(double));
    assert_true(o->tensor && o->grad);
    for (int i = 0; i < s->count; i++) {
        const param_t *p = &s->item[i];
        const char *name = strncmp(p->name, prefix, strlen(prefix)) ? p->name : p->name + strlen(prefix);
        o->tensor[i] =
            (oracle_tensor_t){name, view_count(&p->value), to_file(&t->model, i, p->value.data, p->value.dtype),
                              p->trainable ? o->grad + p->offset : NULL, lora_scale};
    }
}

static void oracle_side_close(oracle_side_t *o) {
    for (int64_t i = 0; i < o->n; i++) free((double *)(uintptr_t)o->tensor[i].value);
    free(o->tensor);
    free(o->grad);
}

static double oracle_loss_of(const oracle_side_t *o, const engine_case_t *c, const model_config_t *mc,
                             const batch_t *b) {
    int32_t *targets = calloc((size_t)b->n_tokens, sizeof *targets);
    double *weights = calloc((size_t)b->n_tokens, sizeof *weights), inv_freq[16];
    assert_true(targets && weights);
    for (int64_t i = 0; i < b->n_tokens; i++) targets[i] = -1;
    for (int64_t i = 0; i < b->n_loss; i++) {
        targets[b->loss_row[i]] = b->targets[i];
        weights[b->loss_row[i]] = (double)b->loss_weight[i];
    }
    const oracle_weights_t w = {o->tensor, o->n};
    const oracle_batch_t batch = {b->n_tokens, b->n_seqs, b->ids, b->cu_seqlens, targets, weights, NULL};
    oracle_result_t r = {0};
    if (c->gpt2) {
        const oracle_gpt2_t g = {mc->vocab, mc->max_positions, mc->hidden, mc->layers, mc->heads,
                                 mc->ff,    mc->eps,           c->tied};
        oracle_gpt2_run(&g, &w, &batch, &r);
    } else {
        oracle_rope_frequencies(&c->rope, mc->head_dim, inv_freq);
        const oracle_llama_t l = {mc->vocab, mc->hidden, mc->layers,        mc->heads,   mc->kv_heads, mc->head_dim,
                                  mc->ff,    mc->eps,    c->attention_bias, c->mlp_bias, c->tied,      inv_freq};
        oracle_llama_run(&l, &w, &batch, &r);
    }
    free(targets);
    free(weights);
    return r.loss_sum;
}

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

static void compare_gradient(const engine_case_t *c, const backend_t *backend, const tiny_t *t, int index,
                             const void *grad, const double *want, double limit) {
    const param_t *p = &t->model.params.item[index];
    const char *own = (const char *)grad + (size_t)p->offset * dtype_size(backend->real);
    double *got = to_file(&t->model, index, own, backend->real);
    double d = distance(got, DT_F64, want + p->offset, 0, view_count(&p->value));
    if (!(d <= limit)) fail_msg("%s on %s: gradient of %s is off by %g", backend->name, c->config, p->name, d);
    free(got);
}

/* method NULL: every weight of the model. */
static void compare(const engine_case_t *c, const char *method, const backend_t *backend, bool recompute,
                    double limit) {
    tiny_t t;
    batch_t b;
    oracle_side_t o;
    tiny_open(&t, c->config, method, backend->real);
    if (method) tiny_randomize(&t);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    oracle_side_open(&o, &t);
    double want = oracle_loss_of(&o, c, &t.model.config, &b);
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
