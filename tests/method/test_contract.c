/* What every method promises on every family: a table of pairs, the same checks for each. A new method or family is a
 * new row. */
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

enum { ROUNDED = 2 };

typedef struct row {
    const char *method, *dropout; /* the second has dropout 0.3; NULL: the method has none */
    const char *config;
    int64_t trainable; /* counted by hand */
    int identity;      /* the untrained method is the base: false, true, or ROUNDED: its sums are cut at other places */
} row_t;

#define LORA(targets)                                                                                                  \
    "{type: lora, r: 4, lora_alpha: 8, target_modules: " targets "}",                                                  \
        "{type: lora, r: 4, lora_alpha: 8, lora_dropout: 0.3, target_modules: " targets "}"

/* On both families, both with hidden size 24. */
#define BOTH(method, trainable)                                                                                        \
    {method, NULL, tiny_llama, trainable, false}, {                                                                    \
        method, NULL, tiny_gpt2, trainable, false                                                                      \
    }

/* Rows of keys and values are 2 layers * 2 * (1 key head of 8) wide on Llama, 2 * 2 * 24 on GPT-2. */
#define PREFIX(method, llama, gpt2)                                                                                    \
    {method, NULL, tiny_llama, llama, false}, {                                                                        \
        method, NULL, tiny_gpt2, gpt2, false                                                                           \
    }
#define DEMIX(...) "{type: demix, domains: {field: domain, values: [" #__VA_ARGS__ "]}}"
#define CONTROL                                                                                                        \
    "{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: task, values: [a, b], num_virtual_tokens: 2}," \
    "{field: style, values: [x, y, z], num_virtual_tokens: 1}]"

/* Llama: q, o 24 -> 24; k, v 24 -> 8; gate, up 24 -> 20; down 20 -> 24. GPT-2: 24 -> 72, 24 -> 24, 24 -> 28, 28 -> 24.
 */
static const row_t rows[] = {
    {LORA("all-linear"), tiny_llama, 2 * 4 * (2 * 48 + 2 * 32 + 3 * 44), true},
    {LORA("[q_proj, v_proj]"), tiny_llama, 2 * 4 * (48 + 32), true},
    {LORA("all-linear"), tiny_gpt2, 2 * 4 * (96 + 48 + 2 * 52), true},
    {LORA("[c_attn]"), tiny_gpt2, 2 * 4 * 96, true},
    {DEMIX(a, b), NULL, tiny_llama, 2 * 2 * 3 * 24 * 20, ROUNDED},
    {DEMIX(a, b, c), NULL, tiny_gpt2, 3 * 2 * (2 * 24 * 28 + 28 + 24), ROUNDED},
    BOTH("{type: prompt_tuning, num_virtual_tokens: 3}", 3 * 24),
    BOTH("{type: prompt_tuning, num_virtual_tokens: 3, position: after_bos, prompt_tuning_init: sample_vocab}", 3 * 24),
    BOTH("{type: prompt_tuning, num_virtual_tokens: 5, position: after_prompt, prompt_tuning_init: TEXT, "
         "prompt_tuning_init_text: 'say it'}",
         5 * 24),
    BOTH("{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: CLASS_LABELS, prompt_tuning_init_labels: "
         "[good], prompts: {field: task, values: [a, b, c]}}",
         3 * 2 * 24),
    BOTH("{type: p_tuning, num_virtual_tokens: 3}", 3 * 24 + 3 * (24 * 24 + 24)),
    BOTH("{type: p_tuning, num_virtual_tokens: 2, encoder_hidden_size: 10, position: after_prompt, prompts: {field: "
         "task, values: [a, b]}}",
         2 * 2 * 24 + (10 * 24 + 10) + (10 * 10 + 10) + (24 * 10 + 24)),
    BOTH("{type: p_tuning, num_virtual_tokens: 3, encoder_reparameterization_type: lstm, encoder_hidden_size: 5}",
         3 * 24 + 2 * (20 * 24 + 20 * 5 + 40) + 2 * (20 * 10 + 20 * 5 + 40) + (10 * 10 + 10) + (24 * 10 + 24)),
    BOTH("{type: p_tuning, num_virtual_tokens: 4, encoder_reparameterization_type: LSTM, encoder_num_layers: 1, "
         "position: after_bos}",
         4 * 24 + 2 * (96 * 24 + 96 * 24 + 192) + (48 * 48 + 48) + (24 * 48 + 24)),
    PREFIX("{type: prefix_tuning, num_virtual_tokens: 3}", 3 * 32, 3 * 96),
    PREFIX("{type: prefix_tuning, num_virtual_tokens: 5, init_weights: zero}", 5 * 32, 5 * 96),
    PREFIX(
        "{type: prefix_tuning, num_virtual_tokens: 4, init_weights: text, init_text: 'do it', prompts: {field: task, "
        "values: [a, b, c]}}",
        3 * 4 * 32, 3 * 4 * 96),
    PREFIX("{type: prefix_tuning, num_virtual_tokens: 3, prefix_projection: true}", 3 * 8 + (8 * 8 + 8) + (32 * 8 + 32),
           3 * 24 + (24 * 24 + 24) + (96 * 24 + 96)),
    PREFIX("{type: prefix_tuning, num_virtual_tokens: 2, prefix_projection: true, encoder_hidden_size: 5, prompts: "
           "{field: task, values: [a, b]}}",
           2 * 2 * 8 + (5 * 8 + 5) + (32 * 5 + 32), 2 * 2 * 24 + (5 * 24 + 5) + (96 * 5 + 96)),
    PREFIX(CONTROL "}", 9 * 32, 9 * 96),
    PREFIX(CONTROL ", prefix_projection: true, encoder_hidden_size: 7}", 9 * 8 + (7 * 8 + 7) + (32 * 7 + 32),
           9 * 24 + (7 * 24 + 7) + (96 * 7 + 96)),
};
enum { ROWS = sizeof rows / sizeof *rows, SEQS = 4 };
static const int32_t lengths[SEQS] = {9, 1, 14, 6};
static const tiny_how_t cpu = {.backend = &backend_cpu};
static const adamw_options_t adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};

typedef struct bench {
    tiny_t t;
    batch_t b;
    float *grad, *other;
    size_t bytes; /* of a gradient */
} bench_t;

static void open_bench(bench_t *s, const char *method, const char *config) {
    tiny_open(&s->t, config, method, DT_F32);
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

/* The base alone on the sequences without virtual tokens. */
static double bare_loss(const char *config) {
    bench_t s;
    open_bench(&s, "{type: lora}", config);
    double loss = tiny_run(&s.t, (tiny_how_t){.backend = &backend_cpu, .bare = true}, &s.b, NULL);
    close_bench(&s);
    return loss;
}

static void test_starts_as_the_base(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, rows[i].method, rows[i].config);
        assert_int_equal(s.t.model.params.n_trainable, rows[i].trainable);
        double base = bare_loss(rows[i].config);
        double adapted = tiny_run(&s.t, cpu, &s.b, NULL);
        double training = tiny_run(&s.t, cpu, &s.b, s.grad);
        assert_true(base > 1);
        if (rows[i].identity == true) assert_memory_equal(&adapted, &base, sizeof base);
        if (rows[i].identity == ROUNDED) assert_true(fabs(adapted - base) <= 1e-6 * base);
        if (!rows[i].identity) assert_true(fabs(adapted - base) > 1e-3 * base);
        assert_memory_equal(&training, &adapted, sizeof base);
        close_bench(&s);
    }
}

static void test_every_tensor_learns(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, rows[i].method, rows[i].config);
        tiny_randomize(&s.t);
        tiny_run(&s.t, cpu, &s.b, s.grad);
        for (int64_t k = 0; k < s.t.model.params.count; k++) {
            const param_t *p = &s.t.model.params.item[k];
            double size = 0;
            if (!p->trainable) continue;
            for (int64_t e = 0; e < view_count(&p->value); e++) size += fabs((double)s.grad[p->offset + e]);
            if (!(size > 0 && isfinite(size))) fail_msg("%s has gradient %g", p->name, size);
        }
        close_bench(&s);
    }
}

static void test_trains_only_its_own(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        open_bench(&s, rows[i].method, rows[i].config);
        const param_set_t *p = &s.t.model.params;
        size_t frozen = (size_t)p->n_frozen * sizeof(float);
        uint64_t before = XXH64(p->frozen, frozen, 0);
        double first = 0, loss = 0;
        adamw_t a;
        assert_int_equal(adamw_open(&vector_cpu, p, &adam, &a), ST_OK);
        for (int step = 0; step < 20; step++) {
            memset(s.grad, 0, s.bytes);
            loss = tiny_run(&s.t, cpu, &s.b, s.grad);
            if (!step) first = loss;
            adamw_update(&a, s.grad, 1.0 / s.b.weight_sum, 1.0, 1e-2);
        }
        assert_true(XXH64(p->frozen, frozen, 0) == before);
        assert_true(loss < 0.95 * first);
        adamw_close(&a);
        close_bench(&s);
    }
}

/* Runs twice; loss and gradient must have the same bits. */
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
    for (int i = 0; i < 2 * ROWS; i++) {
        bench_t s;
        if (i % 2 && !rows[i / 2].dropout) continue;
        open_bench(&s, i % 2 ? rows[i / 2].dropout : rows[i / 2].method, rows[i / 2].config);
        tiny_randomize(&s.t);
        assert_same_bits(&s, cpu, 1, replay, 1);
        assert_same_bits(&s, cpu, 1, cpu, 2);
        close_bench(&s);
    }
}

static void test_dropout_belongs_to_the_step(void **state) {
    (void)state;
    const tiny_how_t later = {.backend = &backend_cpu, .step = 1};
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        if (!rows[i].dropout) continue;
        open_bench(&s, rows[i].dropout, rows[i].config);
        tiny_randomize(&s.t);
        assert_same_bits(&s, cpu, 1, cpu, 1);
        assert_same_bits(&s, later, 1, later, 1);
        memset(s.other, 0, s.bytes);
        tiny_run(&s.t, cpu, &s.b, s.other);
        assert_true(tiny_distance(s.grad, s.other, DT_F32, s.t.model.params.n_trainable) > 1e-2);
        close_bench(&s);
    }
}

static void test_dropout_ignores_packing(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        if (!rows[i].dropout) continue;
        open_bench(&s, rows[i].dropout, rows[i].config);
        tiny_randomize(&s.t);
        double packed = tiny_run(&s.t, cpu, &s.b, s.grad), sum = 0;
        for (int k = 0; k < SEQS; k++) {
            batch_t one;
            tiny_batch(&one, &s.t, &lengths[k], 1, k);
            sum += tiny_run(&s.t, cpu, &one, s.other);
            batch_release(&one);
        }
        assert_true(fabs(packed - sum) <= 1e-5 * packed);
        assert_true(tiny_distance(s.grad, s.other, DT_F32, s.t.model.params.n_trainable) <= 1e-5);
        close_bench(&s);
    }
}

/* With a loss at the first token alone, nothing else has a gradient, so a dropped input is a zero column of A's. */
static uint64_t dropped_columns(const param_t *p, const float *grad) {
    int64_t n = p->value.dim[0], cols = p->value.dim[1];
    uint64_t mask = 0;
    assert_true(cols < 64);
    for (int64_t i = 0; i < cols; i++) {
        double size = 0;
        for (int64_t r = 0; r < n; r++) size += fabs((double)grad[p->offset + r * cols + i]);
        if (!(size > 0)) mask |= (uint64_t)1 << i;
    }
    return mask;
}

static void test_dropout_differs_between_sites(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        bench_t s;
        uint64_t seen[64];
        int n = 0, dropped = 0, columns = 0;
        if (!rows[i].dropout) continue;
        open_bench(&s, rows[i].dropout, rows[i].config);
        tiny_randomize(&s.t);
        s.b.n_loss = 1;
        s.b.loss_row[0] = 0;
        tiny_run(&s.t, cpu, &s.b, s.grad);
        for (int64_t k = 0; k < s.t.model.params.count; k++) {
            const param_t *p = &s.t.model.params.item[k];
            /* one key has weight 1 whatever the query and the key are */
            if (!strstr(p->name, "lora_A") || strstr(p->name, "q_proj") || strstr(p->name, "k_proj")) continue;
            uint64_t mask = dropped_columns(p, s.grad);
            for (int j = 0; j < n; j++) assert_true(seen[j] != mask);
            seen[n++] = mask;
            dropped += __builtin_popcountll(mask);
            columns += (int)p->value.dim[1];
        }
        double share = (double)dropped / columns;
        assert_true(n >= 2 && share > 0.1 && share < 0.5);
        close_bench(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_starts_as_the_base),
        cmocka_unit_test(test_every_tensor_learns),
        cmocka_unit_test(test_trains_only_its_own),
        cmocka_unit_test(test_execution_changes_no_bit),
        cmocka_unit_test(test_dropout_belongs_to_the_step),
        cmocka_unit_test(test_dropout_ignores_packing),
        cmocka_unit_test(test_dropout_differs_between_sites),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
