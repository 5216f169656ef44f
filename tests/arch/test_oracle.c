/* The oracle's gradients against central finite differences, every element of every tensor, on awkward shapes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "kernels/philox.h"
#include "tests/oracle/oracle.h"

enum { MAX_TENSORS = 64, MAX_TOKENS = 16 };

typedef struct bench {
    oracle_tensor_t tensor[MAX_TENSORS];
    char name[MAX_TENSORS][128];
    double *value[MAX_TENSORS];
    oracle_weights_t weights;
    int32_t ids[MAX_TOKENS], targets[MAX_TOKENS];
    double weight[MAX_TOKENS];
    oracle_batch_t batch;
    void (*run)(const void *config, const oracle_weights_t *, const oracle_batch_t *, oracle_result_t *);
    const void *config;
} bench_t;

static double uniform(uint64_t stream, uint64_t index) {
    uint32_t word[4];
    rng_words(17, RNG_SAMPLE, stream, index, word);
    return 2 * (double)rng_unit(word[0]) - 1;
}

/* Values around `center`, so that norm weights are not all small. */
static void add(bench_t *s, int64_t count, double center, const char *format, int64_t layer, const char *part) {
    int64_t i = s->weights.n++;
    assert_true(i < MAX_TENSORS);
    snprintf(s->name[i], sizeof s->name[i], format, (int)layer, part);
    s->value[i] = calloc((size_t)count, sizeof(double));
    double *grad = calloc((size_t)count, sizeof(double));
    assert_true(s->value[i] && grad);
    for (int64_t k = 0; k < count; k++) s->value[i][k] = center + 0.6 * uniform((uint64_t)i, (uint64_t)k);
    s->tensor[i] = (oracle_tensor_t){s->name[i], count, s->value[i], grad, 1.7};
}

static void add_linear(bench_t *s, const char *module, int64_t layer, int64_t in, int64_t out, bool bias,
                       int64_t rank) {
    add(s, in * out, 0, module, layer, ".weight");
    if (bias) add(s, out, 0, module, layer, ".bias");
    if (!rank) return;
    add(s, rank * in, 0, module, layer, ".lora_A.weight");
    add(s, rank * out, 0, module, layer, ".lora_B.weight");
}

/* n_seqs sequences with the given ends; every third token has no target, weights differ, one is zero. */
static void set_batch(bench_t *s, const int32_t *cu_seqlens, int64_t n_seqs, int32_t vocab) {
    int64_t n = cu_seqlens[n_seqs];
    s->weights.tensor = s->tensor;
    for (int64_t t = 0; t < n; t++) {
        s->ids[t] = (int32_t)((t * t + 3 * t + 2) % vocab);
        s->targets[t] = t % 3 == 1 ? -1 : (int32_t)((5 * t + 1) % vocab);
        s->weight[t] = t == 3 ? 0 : 0.5 + 0.25 * (double)t;
    }
    s->batch = (oracle_batch_t){n, n_seqs, s->ids, cu_seqlens, s->targets, s->weight, NULL, NULL};
}

static void run_llama(const void *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r) {
    oracle_llama_run(c, w, b, r);
}

static void run_gpt2(const void *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r) {
    oracle_gpt2_run(c, w, b, r);
}

static void llama_weights(bench_t *s, const oracle_llama_t *c, int64_t rank) {
    int64_t d = c->hidden, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    s->run = run_llama;
    s->config = c;
    add(s, c->vocab * d, 0, "model.embed_tokens.weight", 0, "");
    for (int64_t i = 0; i < c->layers; i++) {
        add(s, d, 1, "model.layers.%d%s", i, ".input_layernorm.weight");
        add_linear(s, "model.layers.%d.self_attn.q_proj%s", i, d, q, c->attention_bias, rank);
        add_linear(s, "model.layers.%d.self_attn.k_proj%s", i, d, kv, c->attention_bias, rank);
        add_linear(s, "model.layers.%d.self_attn.v_proj%s", i, d, kv, c->attention_bias, 0);
        add_linear(s, "model.layers.%d.self_attn.o_proj%s", i, q, d, c->attention_bias, rank);
        add(s, d, 1, "model.layers.%d%s", i, ".post_attention_layernorm.weight");
        add_linear(s, "model.layers.%d.mlp.gate_proj%s", i, d, c->ff, c->mlp_bias, 0);
        add_linear(s, "model.layers.%d.mlp.up_proj%s", i, d, c->ff, c->mlp_bias, rank);
        add_linear(s, "model.layers.%d.mlp.down_proj%s", i, c->ff, d, c->mlp_bias, rank);
    }
    add(s, d, 1, "model.norm.weight", 0, "");
    if (!c->tied) add(s, c->vocab * d, 0, "lm_head.weight", 0, "");
}

static void gpt2_weights(bench_t *s, const oracle_gpt2_t *c, int64_t rank) {
    int64_t d = c->hidden;
    s->run = run_gpt2;
    s->config = c;
    add(s, c->vocab * d, 0, "transformer.wte.weight", 0, "");
    add(s, c->positions * d, 0, "transformer.wpe.weight", 0, "");
    for (int64_t i = 0; i < c->layers; i++) {
        add(s, d, 1, "transformer.h.%d%s", i, ".ln_1.weight");
        add(s, d, 0, "transformer.h.%d%s", i, ".ln_1.bias");
        add_linear(s, "transformer.h.%d.attn.c_attn%s", i, d, 3 * d, true, rank);
        add_linear(s, "transformer.h.%d.attn.c_proj%s", i, d, d, true, 0);
        add(s, d, 1, "transformer.h.%d%s", i, ".ln_2.weight");
        add(s, d, 0, "transformer.h.%d%s", i, ".ln_2.bias");
        add_linear(s, "transformer.h.%d.mlp.c_fc%s", i, d, c->ff, true, 0);
        add_linear(s, "transformer.h.%d.mlp.c_proj%s", i, c->ff, d, true, rank);
    }
    add(s, d, 1, "transformer.ln_f.weight", 0, "");
    add(s, d, 0, "transformer.ln_f.bias", 0, "");
    if (!c->tied) add(s, c->vocab * d, 0, "lm_head.weight", 0, "");
}

static void free_bench(bench_t *s) {
    for (int64_t i = 0; i < s->weights.n; i++) {
        free(s->value[i]);
        free(s->tensor[i].grad);
    }
    free(s);
}

static bench_t *new_bench(void) {
    bench_t *s = calloc(1, sizeof *s);
    assert_non_null(s);
    return s;
}

static const double *oracle_value(const bench_t *s, const char *name) {
    for (int64_t i = 0; i < s->weights.n; i++)
        if (!strcmp(s->name[i], name)) return s->value[i];
    fail_msg("no tensor %s", name);
    return NULL;
}

static double loss(bench_t *s) {
    oracle_result_t r = {0};
    oracle_tensor_t silent[MAX_TENSORS];
    memcpy(silent, s->tensor, sizeof silent);
    for (int64_t i = 0; i < s->weights.n; i++) silent[i].grad = NULL;
    const oracle_weights_t w = {silent, s->weights.n};
    s->run(s->config, &w, &s->batch, &r);
    return r.loss_sum;
}

/* Every gradient element of every tensor; then frees the bench. */
static void check_gradients(bench_t *s) {
    oracle_result_t r = {0};
    s->run(s->config, &s->weights, &s->batch, &r);
    assert_true(fabs(r.loss_sum - loss(s)) < 1e-12); /* asking for gradients changes nothing */
    const double step = 1e-5;
    for (int64_t i = 0; i < s->weights.n; i++) {
        double largest = 0;
        for (int64_t k = 0; k < s->tensor[i].count; k++) {
            double *x = &s->value[i][k], kept = *x, got = s->tensor[i].grad[k];
            *x = kept + step;
            double up = loss(s);
            *x = kept - step;
            double expected = (up - loss(s)) / (2 * step);
            *x = kept;
            if (!(fabs(got - expected) <= 2e-7 * fmax(1, fabs(expected))))
                fail_msg("%s[%lld]: gradient %.12g, finite difference %.12g", s->name[i], (long long)k, got, expected);
            largest = fmax(largest, fabs(got));
        }
        /* with one token the softmax over keys is constant: nothing reaches q and k */
        bool dead = s->batch.n_tokens == 1 && (strstr(s->name[i], "q_proj") || strstr(s->name[i], "k_proj"));
        if (!dead && largest < 1e-6) fail_msg("%s gets no gradient", s->name[i]);
    }
    free_bench(s);
}

static const int32_t three[] = {0, 4, 5, 9}, one_token[] = {0, 1};

static void test_llama_gqa_biases_lora(void **state) {
    (void)state;
    double inv_freq[3];
    oracle_rope_frequencies(&(oracle_rope_t){.type = ORACLE_ROPE_DEFAULT, .theta = 10000}, 6, inv_freq);
    const oracle_llama_t c = {.vocab = 11,
                              .hidden = 5,
                              .layers = 2,
                              .heads = 3,
                              .kv_heads = 1,
                              .head_dim = 6,
                              .ff = 7,
                              .eps = 1e-5,
                              .attention_bias = true,
                              .mlp_bias = true,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 2);
    set_batch(s, three, 3, 11);
    check_gradients(s);
}

static void test_llama_tied_llama3_two_groups(void **state) {
    (void)state;
    double inv_freq[1];
    const oracle_rope_t rope = {ORACLE_ROPE_LLAMA3, 500, 8, 1, 4, 16};
    oracle_rope_frequencies(&rope, 2, inv_freq);
    const oracle_llama_t c = {.vocab = 7,
                              .hidden = 3,
                              .layers = 1,
                              .heads = 6,
                              .kv_heads = 2,
                              .head_dim = 2,
                              .ff = 5,
                              .eps = 1e-6,
                              .tied = true,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 3);
    set_batch(s, three, 3, 7);
    check_gradients(s);
}

static void test_llama_one_token_one_head(void **state) {
    (void)state;
    double inv_freq[1] = {1};
    const oracle_llama_t c = {.vocab = 5,
                              .hidden = 3,
                              .layers = 2,
                              .heads = 1,
                              .kv_heads = 1,
                              .head_dim = 2,
                              .ff = 3,
                              .eps = 1e-5,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 1);
    set_batch(s, one_token, 1, 5);
    check_gradients(s);
}

static void test_gpt2_tied_lora(void **state) {
    (void)state;
    const oracle_gpt2_t c = {
        .vocab = 11, .positions = 4, .hidden = 9, .layers = 2, .heads = 3, .ff = 7, .eps = 1e-5, .tied = true};
    bench_t *s = new_bench();
    gpt2_weights(s, &c, 2);
    set_batch(s, three, 3, 11);
    check_gradients(s);
}

static void test_gpt2_untied_odd_head(void **state) {
    (void)state;
    const oracle_gpt2_t c = {.vocab = 7, .positions = 9, .hidden = 5, .layers = 1, .heads = 1, .ff = 3, .eps = 1e-5};
    static const int32_t one_sequence[] = {0, 9};
    bench_t *s = new_bench();
    gpt2_weights(s, &c, 0);
    set_batch(s, one_sequence, 1, 7);
    check_gradients(s);
}

/* Two prefix rows, none and three; `kv` is K h. */
static void add_prefix(bench_t *s, int64_t layers, int64_t kv) {
    static const int32_t cu_prefix[] = {0, 2, 2, 5};
    for (int64_t i = 0; i < layers; i++) {
        add(s, 5 * kv, 0, "prefix.%d%s", i, ".key");
        add(s, 5 * kv, 0, "prefix.%d%s", i, ".value");
    }
    s->batch.cu_prefix = cu_prefix;
}

static void test_llama_prefix(void **state) {
    (void)state;
    double inv_freq[2];
    oracle_rope_frequencies(&(oracle_rope_t){.type = ORACLE_ROPE_DEFAULT, .theta = 50}, 4, inv_freq);
    const oracle_llama_t c = {.vocab = 7,
                              .hidden = 5,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_dim = 4,
                              .ff = 3,
                              .eps = 1e-5,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 1);
    set_batch(s, three, 3, 7);
    add_prefix(s, c.layers, c.kv_heads * c.head_dim);
    check_gradients(s);
}

static void test_gpt2_prefix(void **state) {
    (void)state;
    const oracle_gpt2_t c = {
        .vocab = 7, .positions = 8, .hidden = 6, .layers = 2, .heads = 3, .ff = 5, .eps = 1e-5, .tied = true};
    bench_t *s = new_bench();
    gpt2_weights(s, &c, 0);
    set_batch(s, three, 3, 7);
    add_prefix(s, c.layers, c.hidden);
    check_gradients(s);
}

/* Keys and values of earlier tokens, given as a prefix, are those tokens: one layer, the second half of a sequence. */
static void test_prefix_is_what_went_before(void **state) {
    (void)state;
    double whole[9 * 11], half[9 * 11], x[4 * 5];
    const oracle_gpt2_t c = {.vocab = 11, .positions = 9, .hidden = 4, .layers = 1, .heads = 2, .ff = 3, .eps = 1e-5};
    static const int32_t ends[] = {0, 9}, rest[] = {0, 4}, cu_prefix[] = {0, 5};
    bench_t *s = new_bench();
    gpt2_weights(s, &c, 0);
    set_batch(s, ends, 1, 11);
    oracle_result_t r = {.logits = whole};
    oracle_gpt2_run(&c, &s->weights, &s->batch, &r);
    /* keys and values of the first five tokens by hand: layernorm(wte + wpe) and two thirds of c_attn */
    const double *wte = oracle_value(s, "transformer.wte.weight"), *wpe = oracle_value(s, "transformer.wpe.weight");
    const double *g = oracle_value(s, "transformer.h.0.ln_1.weight"), *o = oracle_value(s, "transformer.h.0.ln_1.bias");
    const double *w = oracle_value(s, "transformer.h.0.attn.c_attn.weight");
    const double *bias = oracle_value(s, "transformer.h.0.attn.c_attn.bias");
    add(s, 20, 0, "prefix.%d%s", 0, ".key");
    add(s, 20, 0, "prefix.%d%s", 0, ".value");
    double *const part[2] = {s->value[s->weights.n - 2], s->value[s->weights.n - 1]};
    for (int t = 0; t < 5; t++) {
        double mean = 0, square = 0;
        for (int i = 0; i < 4; i++) mean += (x[i] = wte[s->ids[t] * 4 + i] + wpe[t * 4 + i]) / 4;
        for (int i = 0; i < 4; i++) square += (x[i] - mean) * (x[i] - mean) / 4;
        for (int i = 0; i < 4; i++) x[i] = (x[i] - mean) / sqrt(square + 1e-5) * g[i] + o[i];
        for (int k = 0; k < 8; k++) {
            double y = bias[4 + k];
            for (int i = 0; i < 4; i++) y += x[i] * w[i * 12 + 4 + k];
            part[k / 4][t * 4 + k % 4] = y;
        }
    }
    s->batch = (oracle_batch_t){4, 1, s->ids + 5, rest, s->targets + 5, s->weight + 5, cu_prefix, NULL};
    r.logits = half;
    oracle_gpt2_run(&c, &s->weights, &s->batch, &r);
    for (int i = 0; i < 4 * 11; i++) assert_true(fabs(half[i] - whole[5 * 11 + i]) < 1e-12);
    free_bench(s);
}

/* Rows of slot.rows: the first two of a sequence, of which one stands elsewhere, too, and one that is a sequence. */
static const int32_t slots[] = {1, 0, -1, -1, 2, 1, -1, -1, -1};

static void test_llama_slots(void **state) {
    (void)state;
    double inv_freq[2];
    oracle_rope_frequencies(&(oracle_rope_t){.type = ORACLE_ROPE_DEFAULT, .theta = 50}, 4, inv_freq);
    const oracle_llama_t c = {.vocab = 7,
                              .hidden = 5,
                              .layers = 2,
                              .heads = 4,
                              .kv_heads = 2,
                              .head_dim = 4,
                              .ff = 3,
                              .eps = 1e-5,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 1);
    set_batch(s, three, 3, 7);
    add(s, 3 * c.hidden, 0, "slot.rows", 0, "");
    s->batch.slot = slots;
    check_gradients(s);
}

/* A slot with a token's own embedding is that token. */
static void test_gpt2_slots(void **state) {
    (void)state;
    const oracle_gpt2_t c = {
        .vocab = 7, .positions = 4, .hidden = 6, .layers = 2, .heads = 3, .ff = 5, .eps = 1e-5, .tied = true};
    bench_t *s = new_bench();
    gpt2_weights(s, &c, 0);
    set_batch(s, three, 3, 7);
    add(s, 3 * c.hidden, 0, "slot.rows", 0, "");
    s->ids[5] = s->ids[0]; /* row 1 stands in both places */
    double without = loss(s);
    s->batch.slot = slots;
    assert_true(fabs(loss(s) - without) > 1e-3);
    for (int t = 0; t < 5; t++)
        if (slots[t] >= 0)
            memcpy(s->value[s->weights.n - 1] + slots[t] * c.hidden,
                   oracle_value(s, "transformer.wte.weight") + s->ids[t] * c.hidden, (size_t)c.hidden * sizeof(double));
    assert_true(fabs(loss(s) - without) < 1e-12);
    check_gradients(s);
}

/* Sequences of one packed batch do not see each other: the same logits and loss as alone. */
static void test_packing_is_exact(void **state) {
    (void)state;
    double inv_freq[2], packed[9 * 11], alone[9 * 11];
    const oracle_rope_t rope = {.type = ORACLE_ROPE_LINEAR, .theta = 100, .factor = 2};
    oracle_rope_frequencies(&rope, 4, inv_freq);
    const oracle_llama_t c = {.vocab = 11,
                              .hidden = 5,
                              .layers = 2,
                              .heads = 3,
                              .kv_heads = 1,
                              .head_dim = 4,
                              .ff = 7,
                              .eps = 1e-5,
                              .inv_freq = inv_freq};
    bench_t *s = new_bench();
    llama_weights(s, &c, 2);
    set_batch(s, three, 3, 11);
    for (int64_t i = 0; i < s->weights.n; i++) {
        free(s->tensor[i].grad);
        s->tensor[i].grad = NULL;
    }
    oracle_result_t all = {.logits = packed};
    oracle_llama_run(&c, &s->weights, &s->batch, &all);
    double loss_sum = 0, weight_sum = 0;
    for (int64_t q = 0; q < 3; q++) {
        int64_t start = three[q];
        const int32_t ends[2] = {0, three[q + 1] - three[q]};
        const oracle_batch_t b = {ends[1], 1, s->ids + start, ends, s->targets + start, s->weight + start, NULL, NULL};
        oracle_result_t r = {.logits = alone + start * 11};
        oracle_llama_run(&c, &s->weights, &b, &r);
        loss_sum += r.loss_sum;
        weight_sum += r.weight_sum;
    }
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++) assert_true(fabs(packed[i] - alone[i]) < 1e-12);
    assert_true(fabs(loss_sum - all.loss_sum) < 1e-12 && weight_sum == all.weight_sum);
    free_bench(s);
}

/* Kept, blended and divided frequencies of Llama 3, by hand; forward_parity.py compares with transformers. */
static void test_rope_frequencies(void **state) {
    (void)state;
    double f[4];
    const oracle_rope_t rope = {ORACLE_ROPE_LLAMA3, 10000, 8, 1, 4, 128};
    oracle_rope_frequencies(&rope, 8, f);
    assert_true(f[0] == 1);
    const double turns = 128 * 0.1 / (2 * acos(-1.0)), keep = (turns - 1) / 3; /* wavelength 62.8: between 32 and 128 */
    assert_true(fabs(f[1] - (keep * 0.1 + (1 - keep) * 0.1 / 8)) < 1e-15);
    assert_true(fabs(f[2] - 0.01 / 8) < 1e-15 && fabs(f[3] - 0.001 / 8) < 1e-15);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_llama_gqa_biases_lora),
        cmocka_unit_test(test_llama_tied_llama3_two_groups),
        cmocka_unit_test(test_llama_one_token_one_head),
        cmocka_unit_test(test_gpt2_tied_lora),
        cmocka_unit_test(test_gpt2_untied_odd_head),
        cmocka_unit_test(test_packing_is_exact),
        cmocka_unit_test(test_llama_prefix),
        cmocka_unit_test(test_gpt2_prefix),
        cmocka_unit_test(test_prefix_is_what_went_before),
        cmocka_unit_test(test_llama_slots),
        cmocka_unit_test(test_gpt2_slots),
        cmocka_unit_test(test_rope_frequencies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
