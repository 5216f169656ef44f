/* Rows of added tokens: their number, their initial values, their gradient against that of the whole matrix, and that
 * nothing else of embedding and head moves. Tied and untied, in new rows and in spare ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"
#include "train/optim/adamw.h"

#define METHOD "{type: lora, r: 4, lora_alpha: 8, target_modules: all-linear}"
#define UNTIED                                                                                                         \
    "{\"model_type\": \"llama\", \"vocab_size\": 37, \"hidden_size\": 24, \"num_hidden_layers\": 2,"                   \
    "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"intermediate_size\": 20,"                               \
    "\"max_position_embeddings\": 64, \"tie_word_embeddings\": false}"

enum { V = 37, D = 24, K = 3, SEQS = 4 };
static const char *const texts[K] = {"<|good|>", "<|bad|>", "<|neutral|>"};
static const int32_t lengths[SEQS] = {9, 1, 14, 20};
static const tiny_how_t cpu = {.backend = &backend_cpu}, ref = {.backend = &backend_ref_f64};
static const adamw_options_t adam = {.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};

typedef struct row {
    const char *config;
    int64_t lora; /* trainable of the method alone */
    int64_t first;
    bool tied;
} row_t;

static const row_t rows[] = {
    {tiny_llama, 2 * 4 * (2 * 48 + 2 * 32 + 3 * 44), V, true},
    {tiny_llama, 2 * 4 * (2 * 48 + 2 * 32 + 3 * 44), V - 5, true}, /* spare rows, two of which stay spare */
    {tiny_llama, 2 * 4 * (2 * 48 + 2 * 32 + 3 * 44), V - 1, true},
    {UNTIED, 2 * 4 * (2 * 48 + 2 * 32 + 3 * 44), V, false},
    {tiny_gpt2, 2 * 4 * (96 + 48 + 2 * 52), V, true},
};
enum { ROWS = sizeof rows / sizeof *rows };

static int64_t vocab(const row_t *r) {
    return r->first + K > V ? r->first + K : V;
}

static void test_counts(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        tiny_t t;
        tiny_open_grown(&t, rows[i].config, METHOD, DT_F32, rows[i].first, texts, K);
        const model_t *m = &t.model;
        assert_int_equal(m->params.n_trainable, rows[i].lora + K * D * (rows[i].tied ? 1 : 2));
        assert_int_equal(m->config.vocab, vocab(&rows[i]));
        assert_int_equal(m->params.item[m->embed].value.dim[0], vocab(&rows[i]));
        assert_int_equal(m->params.item[m->head].value.dim[0], vocab(&rows[i]));
        assert_true((m->new_head == m->new_embed) == rows[i].tied);
        tiny_close(&t);
    }
}

/* A mean of the base's own rows and a deviation of 0.01; a function of seed and text alone. */
static void check_initial(const view_t *v, int64_t first) {
    const float *e = v->data;
    double sum = 0, square = 0;
    for (int64_t c = 0; c < D; c++) {
        double mean = 0;
        for (int64_t r = 0; r < first; r++) mean += (double)e[r * D + c] / (double)first;
        for (int64_t k = 0; k < K; k++) {
            double d = (double)e[(first + k) * D + c] - mean;
            assert_true(fabs(d) < 0.05);
            sum += d / (K * D);
            square += d * d / (K * D);
        }
    }
    assert_true(fabs(sum) < 0.004);
    assert_true(sqrt(square) > 0.007 && sqrt(square) < 0.013);
}

static void test_initial_rows(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        tiny_t t, other;
        const char *const moved[K] = {texts[2], texts[0], texts[1]};
        tiny_open_grown(&t, rows[i].config, METHOD, DT_F32, rows[i].first, texts, K);
        tiny_open_grown(&other, rows[i].config, METHOD, DT_F32, rows[i].first, moved, K);
        const view_t *v = &t.model.params.item[t.model.embed].value, *h = &t.model.params.item[t.model.head].value,
                     *w = &other.model.params.item[other.model.embed].value;
        const float *a = (const float *)v->data + rows[i].first * D, *b = (const float *)w->data + rows[i].first * D;
        check_initial(v, rows[i].first);
        check_initial(h, rows[i].first);
        assert_memory_equal(a, b + D, 2 * D * sizeof *a);
        assert_memory_equal(a + 2 * D, b, D * sizeof *a);
        assert_memory_not_equal(a, a + D, D * sizeof *a);
        model_init_new(&other.model, moved, 12);
        assert_memory_not_equal(a, b + D, D * sizeof *a);
        tiny_close(&other);
        tiny_close(&t);
    }
}

/* |got - want| / |want| of the window's gradient and of its rows in the gradient of the whole matrix. */
static void compare_window(const row_t *r, const tiny_t *t, int window, int whole, const void *grad, const tiny_t *full,
                           const void *full_grad, double limit) {
    dtype_t real = t->model.params.real;
    const char *got = (const char *)grad + (size_t)t->model.params.item[window].offset * dtype_size(real);
    const char *want =
        (const char *)full_grad + (size_t)(full->model.params.item[whole].offset + r->first * D) * dtype_size(real);
    double d = tiny_distance(got, want, real, K * D);
    if (!(d <= limit)) fail_msg("%s: the rows' gradient is off by %g", r->config, d);
}

static void check_gradient(const row_t *r, tiny_how_t how, double limit) {
    tiny_t t, full;
    batch_t b;
    dtype_t real = how.backend->real;
    tiny_open_grown(&t, r->config, METHOD, real, r->first, texts, K); /* B is 0: the base model */
    tiny_open_grown(&full, r->config, NULL, real, r->first, texts, K);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    void *grad = tiny_zeros(&t), *whole = tiny_zeros(&full);
    double loss = tiny_run(&t, how, &b, grad), want = tiny_run(&full, how, &b, whole);
    assert_true(fabs(loss - want) <= 1e-6 * want);
    assert_int_equal(full.model.new_embed, -1);
    compare_window(r, &t, t.model.new_embed, full.model.embed, grad, &full, whole, limit);
    if (!r->tied) compare_window(r, &t, t.model.new_head, full.model.head, grad, &full, whole, limit);
    free(grad);
    free(whole);
    batch_release(&b);
    tiny_close(&full);
    tiny_close(&t);
}

static void test_gradient(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        check_gradient(&rows[i], ref, 1e-13);
        check_gradient(&rows[i], cpu, 2e-6);
        check_gradient(&rows[i], (tiny_how_t){.backend = &backend_cpu, .recompute = true}, 2e-6);
    }
}

/* Rows [0, first) and those behind the added ones. */
static void check_frozen(const row_t *r, const view_t *v, const float *before) {
    const float *now = v->data;
    int64_t end = r->first + K;
    assert_memory_equal(now, before, (size_t)(r->first * D) * sizeof *now);
    assert_memory_equal(now + end * D, before + end * D, (size_t)((vocab(r) - end) * D) * sizeof *now);
    for (int64_t k = r->first; k < end; k++) assert_memory_not_equal(now + k * D, before + k * D, D * sizeof *now);
}

static float *copy(const view_t *v) {
    float *p = malloc(view_bytes(v));
    assert_non_null(p);
    memcpy(p, v->data, view_bytes(v));
    return p;
}

static void test_trains_only_the_added(void **state) {
    (void)state;
    for (int i = 0; i < ROWS; i++) {
        tiny_t t;
        batch_t b;
        adamw_t a;
        tiny_open_grown(&t, rows[i].config, METHOD, DT_F32, rows[i].first, texts, K);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        const param_set_t *p = &t.model.params;
        const view_t *embed = &p->item[t.model.embed].value, *head = &p->item[t.model.head].value;
        float *embed_was = copy(embed), *head_was = copy(head), *grad = tiny_zeros(&t);
        assert_int_equal(adamw_open(&vector_cpu, p, &adam, &a), ST_OK);
        double first = 0, loss = 0;
        for (int step = 0; step < 20; step++) {
            memset(grad, 0, (size_t)p->n_trainable * sizeof *grad);
            loss = tiny_run(&t, cpu, &b, grad);
            if (!step) first = loss;
            adamw_update(&a, grad, 1.0 / b.weight_sum, 1.0, 1e-2);
        }
        assert_true(loss < 0.95 * first);
        check_frozen(&rows[i], embed, embed_was);
        check_frozen(&rows[i], head, head_was);
        adamw_close(&a);
        free(embed_was);
        free(head_was);
        free(grad);
        batch_release(&b);
        tiny_close(&t);
    }
}

static void test_refusals(void **state) {
    (void)state;
    tiny_t t;
    int index;
    tiny_open(&t, tiny_llama, METHOD, DT_F32);
    assert_int_equal(model_grow(&t.model, V + 1, 1), ST_USAGE);
    assert_int_equal(model_grow(&t.model, V, 1 << 24), ST_USAGE);
    assert_int_equal(model_grow(&t.model, 0, 1), ST_USAGE);
    assert_int_equal(t.model.config.vocab, V);
    assert_int_equal(param_declare_window(&t.model.params, "w", t.model.embed, V - 1, 2, &index), ST_INTERNAL);
    assert_int_equal(param_declare_window(&t.model.params, "w", t.model.embed, -1, 2, &index), ST_INTERNAL);
    assert_int_equal(param_declare_window(&t.model.params, "w", t.model.final_norm, 0, 2, &index), ST_INTERNAL);
    st_clear();
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),   cmocka_unit_test(test_initial_rows),
        cmocka_unit_test(test_gradient), cmocka_unit_test(test_trains_only_the_added),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
