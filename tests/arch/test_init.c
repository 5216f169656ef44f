/* Models made anew: the distribution of their weights, their seed, what a configuration may say. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "train/models/model.h"

static const char llama[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 500, \"hidden_size\": 64, \"num_hidden_layers\": 3,"
    "\"num_attention_heads\": 4, \"intermediate_size\": 96, \"attention_bias\": true, \"initializer_range\": 0.05}";
static const char gpt2[] = "{\"model_type\": \"gpt2\", \"vocab_size\": 500, \"n_embd\": 64, \"n_layer\": 3, "
                           "\"n_head\": 4, \"n_positions\": 80}";

typedef struct made {
    json_t *config;
    model_t m;
} made_t;

static void make(made_t *x, const char *text, uint64_t seed, dtype_t real) {
    x->config = json_loads(text, 0, NULL);
    assert_non_null(x->config);
    assert_int_equal(model_open_config(x->config, "model.yaml", real, &x->m), ST_OK);
    assert_int_equal(param_set_alloc(&x->m.params, false), ST_OK);
    assert_int_equal(model_init(&x->m, x->config, seed), ST_OK);
}

static void drop(made_t *x) {
    model_close(&x->m);
    json_decref(x->config);
}

static bool ends(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* A sample's deviation of n normal numbers has itself the deviation std / sqrt(2n); five of those are allowed. */
static void check_tensor(const param_t *p, double std) {
    int64_t n = view_count(&p->value);
    const float *x = p->value.data;
    double sum = 0, squares = 0, fourth = 0;
    for (int64_t i = 0; i < n; i++) {
        double v = (double)x[i];
        sum += v, squares += v * v, fourth += v * v * v * v;
    }
    if (p->value.rank == 1) {
        double want = ends(p->name, ".bias") ? 0 : 1;
        for (int64_t i = 0; i < n; i++) assert_true(fabs((double)x[i] - want) <= 0);
        return;
    }
    double variance = squares / (double)n, error = 5 * std / sqrt((double)n);
    assert_true(fabs(sum / (double)n) < error);
    assert_true(fabs(sqrt(variance) - std) < error);
    assert_true(fabs(fourth / (double)n / (variance * variance) - 3) < 0.6); /* 1.8 were it uniform */
}

static void test_distribution(void **state) {
    (void)state;
    made_t x;
    make(&x, llama, 5, DT_F32);
    for (int64_t i = 0; i < x.m.params.count; i++) check_tensor(&x.m.params.item[i], 0.05);
    drop(&x);
    make(&x, gpt2, 5, DT_F32);
    for (int64_t i = 0; i < x.m.params.count; i++)
        check_tensor(&x.m.params.item[i], ends(x.m.params.item[i].name, "c_proj.weight") ? 0.02 / sqrt(6.0) : 0.02);
    drop(&x);
}

static void test_seed_and_name(void **state) {
    (void)state;
    made_t a, b, c, d;
    make(&a, llama, 5, DT_F32);
    make(&b, llama, 5, DT_F32);
    make(&c, llama, 6, DT_F32);
    make(&d, llama, 5, DT_F64);
    size_t bytes = (size_t)a.m.params.n_frozen * sizeof(float);
    assert_memory_equal(a.m.params.frozen, b.m.params.frozen, bytes);
    assert_true(a.m.fingerprint == b.m.fingerprint && a.m.fingerprint != c.m.fingerprint);
    const param_t *q = &a.m.params.item[a.m.site[0].weight], *k = &a.m.params.item[a.m.site[1].weight];
    assert_int_equal(view_count(&q->value), view_count(&k->value));
    assert_memory_not_equal(q->value.data, k->value.data, view_bytes(&q->value));
    assert_memory_not_equal(q->value.data, c.m.params.item[a.m.site[0].weight].value.data, view_bytes(&q->value));
    const double *same = d.m.params.item[a.m.site[0].weight].value.data;
    for (int64_t i = 0; i < view_count(&q->value); i++)
        assert_true(fabs((double)((float *)q->value.data)[i] - same[i]) <= 0);
    drop(&a);
    drop(&b);
    drop(&c);
    drop(&d);
}

static void test_refused(void **state) {
    (void)state;
    static const struct {
        const char *text, *message;
    } bad[] = {
        {"{\"hidden_size\": 64}", "model.yaml: model_type '' is not a supported family"},
        {"{\"model_type\": \"bert\"}", "model_type 'bert' is not a supported family"},
        {"{\"model_type\": \"llama\", \"hiden_size\": 64}", "unknown key 'hiden_size' (did you mean 'hidden_size'?)"},
        {"{\"model_type\": \"gpt2\", \"n_embed\": 64}", "unknown key 'n_embed' (did you mean 'n_embd'?)"},
        {"{\"model_type\": \"llama\", \"hidden_size\": \"64\"}", "'hidden_size' must be an integer"},
        {"{\"model_type\": \"llama\", \"num_attention_heads\": 0}", "number of heads"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        json_t *config = json_loads(bad[i].text, 0, NULL);
        model_t m;
        assert_int_equal(model_open_config(config, "model.yaml", DT_F32, &m), ST_INPUT);
        if (!strstr(st_message(), bad[i].message)) fail_msg("%s lacks %s", st_message(), bad[i].message);
        model_close(&m);
        json_decref(config);
    }
    made_t x;
    make(&x, gpt2, 1, DT_F32);
    json_object_set_new(x.config, "initializer_range", json_real(-1));
    assert_int_equal(model_init(&x.m, x.config, 1), ST_INPUT);
    drop(&x);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_distribution),
        cmocka_unit_test(test_seed_and_name),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
