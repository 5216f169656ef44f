/* What full fine-tuning promises on every family: which weights it trains, that it starts as the base, that each of
 * them learns, that the others stay, and that execution changes no bit. */
#include <math.h>
#include <omp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"
#include "train/optim/adamw.h"

#define LLAMA(more)                                                                                                    \
    "{\"model_type\": \"llama\", \"vocab_size\": 37, \"hidden_size\": 24, \"num_hidden_layers\": 2,"                   \
    "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"intermediate_size\": 20,"                               \
    "\"max_position_embeddings\": 64, " more "}"
static const char llama_untied[] = LLAMA("\"tie_word_embeddings\": false");
static const char llama_bias[] = LLAMA("\"tie_word_embeddings\": true, \"attention_bias\": true, \"mlp_bias\": true");

/* By hand. Llama: a layer has q, o 24 x 24, k, v 8 x 24, gate, up, down 20 x 24 and two norms; GPT-2: 24 -> 72, 24 ->
 * 24, 24 -> 28, 28 -> 24 with biases, and two norms with two vectors each. */
enum {
    EMBED = 37 * 24,
    LLAMA_LAYER = 2 * 576 + 2 * 192 + 3 * 480 + 2 * 24,
    GPT2_LAYER = 24 * 72 + 72 + 576 + 24 + 24 * 28 + 28 + 28 * 24 + 24 + 4 * 24,
    GPT2_BIAS = 72 + 24 + 28 + 24 + 2 * 24,
};
static const struct {
    const char *method, *config;
    int64_t trainable;
    double rate;
} rows[] = {
    {"{type: full}", tiny_llama, EMBED + 2 * LLAMA_LAYER + 24, 1e-2},
    {"{type: full}", llama_untied, 2 * EMBED + 2 * LLAMA_LAYER + 24, 1e-2},
    {"{type: full}", tiny_gpt2, EMBED + 64 * 24 + 2 * GPT2_LAYER + 48, 1e-2},
    {"{type: full, train: [bias]}", tiny_gpt2, 2 * GPT2_BIAS + 24, 5e-2},
    {"{type: full, train: [bias]}", llama_bias, 2 * (24 + 8 + 8 + 24 + 20 + 20 + 24), 5e-2},
    {"{type: full, train: [input_layernorm.weight, post_attention_layernorm.weight, norm.weight]}", tiny_llama, 5 * 24,
     5e-2},
    {"{type: full, train: '.*norm.*'}", tiny_llama, 5 * 24, 5e-2},
    {"{type: full, train: [ln_1.weight, ln_2.weight, ln_f.weight]}", tiny_gpt2, 5 * 24, 5e-2},
    {"{type: full, train: [model.embed_tokens.weight]}", tiny_llama, EMBED, 1e-2},
};
enum { ROWS = sizeof rows / sizeof *rows, SEQS = 5 };
static const int32_t lengths[SEQS] = {14, 1, 20, 6, 17};
static const tiny_how_t cpu = {.backend = &backend_cpu};
static const adamw_options_t adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};

typedef struct bench {
    tiny_t t;
    batch_t b;
    float *grad, *other;
    size_t bytes;
} bench_t;

static void open_bench(bench_t *s, int i) {
    tiny_open(&s->t, rows[i].config, rows[i].method, DT_F32);
    tiny_batch(&s->b, &s->t, lengths, SEQS, 0);
    s->grad = tiny_zeros(&s->t);
    s->other = tiny_zeros(&s->t);
    s->bytes = (size_t)s->t.model.params.n_trainable * sizeof(float);
}

static void close_bench(bench_t *s) {
    free(s->grad);
    free(s->other);
    batch_release(&s->b);
    tiny_close(&s->t);
}

static void test_starts_as_the_base(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, i);
        assert_int_equal(s.t.model.params.n_trainable, rows[i].trainable);
        double base = tiny_run(&s.t, (tiny_how_t){.backend = &backend_cpu, .bare = true}, &s.b, NULL);
        double training = tiny_run(&s.t, cpu, &s.b, s.grad);
        assert_true(base > 1);
        assert_memory_equal(&training, &base, sizeof base);
        close_bench(&s);
    }
}

/* A tied head is one tensor; decay leaves biases and norm weights out. */
static void test_what_is_trained(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, i);
        const model_t *m = &s.t.model;
        assert_int_equal(m->params.count, m->n_weight);
        assert_true((m->head == m->embed) == m->config.tied);
        for (int64_t k = 0; k < m->params.count; k++)
            assert_int_equal(m->params.item[k].decay, m->params.item[k].value.rank == 2);
        close_bench(&s);
    }
}

static void test_every_tensor_learns(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, i);
        tiny_run(&s.t, cpu, &s.b, s.grad);
        for (int64_t k = 0; k < s.t.model.params.count; k++) {
            const param_t *p = &s.t.model.params.item[k];
            double size = 0;
            if (!p->trainable) continue;
            for (int64_t e = 0; e < view_count(&p->value); e++) size += fabs((double)s.grad[p->offset + e]);
            if (!(size > 0 && isfinite(size))) fail_msg("row %d: %s has gradient %g", i, p->name, size);
        }
        close_bench(&s);
    }
}

static double train(bench_t *s, double rate, int first, int last, adamw_t *a) {
    double loss = 0;
    for (int step = first; step < last; step++) {
        memset(s->grad, 0, s->bytes);
        loss = tiny_run(&s->t, cpu, &s->b, s->grad);
        adamw_update(a, s->grad, 1.0 / s->b.weight_sum, 1.0, rate);
    }
    return loss;
}

static void test_trains_only_its_own(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        adamw_t a;
        open_bench(&s, i);
        const param_set_t *p = &s.t.model.params;
        size_t frozen = (size_t)p->n_frozen * sizeof(float);
        uint64_t before = XXH64(p->frozen, frozen, 0);
        assert_int_equal(adamw_open(&vector_cpu, p, &adam, &a), ST_OK);
        double first = train(&s, rows[i].rate, 0, 1, &a), loss = train(&s, rows[i].rate, 1, 20, &a);
        assert_true(XXH64(p->frozen, frozen, 0) == before);
        if (!(loss < 0.97 * first)) fail_msg("row %d: the loss went from %g to %g", i, first, loss);
        adamw_close(&a);
        close_bench(&s);
    }
}

/* A second model takes over weights and optimiser state after four steps. */
static void test_resumes_with_the_same_bits(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s, r;
        adamw_t a, b;
        open_bench(&s, i);
        open_bench(&r, i);
        assert_int_equal(adamw_open(&vector_cpu, &s.t.model.params, &adam, &a), ST_OK);
        assert_int_equal(adamw_open(&vector_cpu, &r.t.model.params, &adam, &b), ST_OK);
        train(&s, rows[i].rate, 0, 4, &a);
        memcpy(r.t.model.params.trainable, s.t.model.params.trainable, s.bytes);
        adamw_load(&b, 0, a.n, a.own.exp_avg, a.own.exp_avg_sq);
        b.step = a.step;
        double x = train(&s, rows[i].rate, 4, 8, &a), y = train(&r, rows[i].rate, 4, 8, &b);
        assert_memory_equal(&x, &y, sizeof x);
        assert_memory_equal(s.t.model.params.trainable, r.t.model.params.trainable, s.bytes);
        adamw_close(&a);
        adamw_close(&b);
        close_bench(&s);
        close_bench(&r);
    }
}

static void assert_same_bits(bench_t *s, tiny_how_t x, int threads_x, tiny_how_t y, int threads_y) {
    int before = omp_get_max_threads();
    memset(s->grad, 0, s->bytes);
    memset(s->other, 0, s->bytes);
    omp_set_num_threads(threads_x);
    double a = tiny_run(&s->t, x, &s->b, s->grad);
    omp_set_num_threads(threads_y);
    double b = tiny_run(&s->t, y, &s->b, s->other);
    omp_set_num_threads(before);
    assert_memory_equal(&a, &b, sizeof a);
    assert_memory_equal(s->grad, s->other, s->bytes);
}

static void test_execution_changes_no_bit(void **state) {
    (void)state;
    const tiny_how_t replay = {.backend = &backend_cpu, .recompute = true};
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, i);
        assert_same_bits(&s, cpu, 1, replay, 1);
        assert_same_bits(&s, cpu, 1, cpu, 2);
        close_bench(&s);
    }
}

/* Untied, with both tables equal, has the gradients of the two uses apart; tied has their sum. */
static void test_a_tied_head_has_both_gradients(void **state) {
    (void)state;
    bench_t tied, untied;
    open_bench(&tied, 0);
    open_bench(&untied, 1);
    const model_t *m = &untied.t.model;
    const param_t *embed = &m->params.item[m->embed], *head = &m->params.item[m->head];
    memcpy(head->value.data, embed->value.data, view_bytes(&embed->value));
    tiny_run(&tied.t, cpu, &tied.b, tied.grad);
    tiny_run(&untied.t, cpu, &untied.b, untied.grad);
    const float *sum = tied.grad + tied.t.model.params.item[tied.t.model.embed].offset;
    float *parts = untied.grad + embed->offset;
    for (int64_t i = 0; i < EMBED; i++) parts[i] += untied.grad[head->offset + i];
    assert_true(tiny_distance(sum, parts, DT_F32, EMBED) < 1e-6);
    close_bench(&tied);
    close_bench(&untied);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_as_the_base),
        cmocka_unit_test(test_what_is_trained),
        cmocka_unit_test(test_every_tensor_learns),
        cmocka_unit_test(test_trains_only_its_own),
        cmocka_unit_test(test_resumes_with_the_same_bits),
        cmocka_unit_test(test_execution_changes_no_bit),
        cmocka_unit_test(test_a_tied_head_has_both_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
