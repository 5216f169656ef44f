/* Prompts beside their gradients: where rows stand, that named prompts keep to their examples, initial values, what
 * exports hold, and the words of mistakes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/safetensors.h"
#include "tests/common/tiny_model.h"
#include "train/run/registry.h"

enum { D = 24, P = 3, V = 37, SEQS = 6 };
static const int32_t lengths[SEQS] = {9, 1, 14, 2, 0, 6};
static const char *const families_tested[] = {tiny_llama, tiny_gpt2};

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

static float *values(const tiny_t *t, const char *name) {
    int i = param_find(&t->model.params, name);
    assert_true(i >= 0);
    return t->model.params.item[i].value.data;
}

static const float *embedding(const tiny_t *t, int32_t id) {
    return (const float *)t->model.params.item[t->model.embed].value.data + id * D;
}

/* Where the rows of sequence s begin, in its own rows. */
static int32_t expected_place(const char *position, int32_t length) {
    if (!strcmp(position, "after_bos")) return length > 1;
    return !strcmp(position, "after_prompt") ? length / 2 : 0;
}

/* Rows that are embeddings of tokens are those tokens: the base says the same. */
static void test_places(void **state) {
    (void)state;
    static const char *const positions[] = {"before", "after_bos", "after_prompt"};
    static const int32_t words[P] = {5, 30, 11};
    for (int i = 0; i < 6; i++) {
        char method[96];
        tiny_t t;
        batch_t b;
        snprintf(method, sizeof method, "{type: prompt_tuning, num_virtual_tokens: 3, position: %s}", positions[i / 2]);
        tiny_open(&t, families_tested[i % 2], method, DT_F32);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        for (int k = 0; k < P; k++)
            memcpy(values(&t, "prompt_embeddings") + k * D, embedding(&t, words[k]), D * sizeof(float));
        double with = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu}, &b, NULL);
        for (int s = 0; s < SEQS; s++) {
            int32_t first = b.cu_seqlens[s], at = first + expected_place(positions[i / 2], lengths[s]);
            assert_int_equal(b.cu_seqlens[s + 1] - first, lengths[s] + P);
            for (int32_t k = first; k < b.cu_seqlens[s + 1]; k++) {
                assert_int_equal(b.positions[k], k - first);
                assert_int_equal(b.slot[k], k >= at && k < at + P ? k - at : -1);
                if (b.slot[k] >= 0) b.ids[k] = words[b.slot[k]];
            }
        }
        double base = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu, .bare = true}, &b, NULL);
        assert_memory_equal(&with, &base, sizeof with);
        batch_release(&b);
        tiny_close(&t);
    }
}

/* A mixed batch of three named prompts against three runs of one prompt on the examples that name it. */
static void test_named_is_alone(void **state) {
    (void)state;
    const tiny_how_t how = {.backend = &backend_ref_f64};
    for (int i = 0; i < 2; i++) {
        tiny_t all, one;
        batch_t b;
        tiny_open(&all, families_tested[i],
                  "{type: prompt_tuning, num_virtual_tokens: 3, prompts: {field: task, values: [a, b, c]}}", DT_F64);
        tiny_open(&one, families_tested[i], "{type: prompt_tuning, num_virtual_tokens: 3}", DT_F64);
        tiny_batch(&b, &all, lengths, SEQS, 0);
        double *mixed = tiny_zeros(&all), together = tiny_run(&all, how, &b, mixed), sum = 0;
        batch_release(&b);
        for (int label = 0; label < 3; label++) {
            double *alone = tiny_zeros(&one);
            memcpy(one.model.params.trainable, (double *)all.model.params.trainable + label * P * D,
                   P * D * sizeof(double));
            for (int s = label; s < SEQS; s += 3) {
                tiny_batch(&b, &one, &lengths[s], 1, s);
                sum += tiny_run(&one, how, &b, alone);
                batch_release(&b);
            }
            assert_true(tiny_distance(mixed + label * P * D, alone, DT_F64, P * D) <= 1e-13);
            free(alone);
        }
        assert_true(fabs(together - sum) <= 1e-13 * sum);
        free(mixed);
        tiny_close(&all);
        tiny_close(&one);
    }
}

/* Row `row` of the table is the mean of n token embeddings. */
static void assert_row(const tiny_t *t, int row, const int32_t *ids, int n) {
    const float *x = values(t, "prompt_embeddings") + row * D;
    for (int k = 0; k < D; k++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += (double)embedding(t, ids[i])[k];
        assert_true(fabs((double)x[k] - sum / n) < 1e-7);
    }
}

/* The token whose embedding a row is. */
static int32_t token_of(const tiny_t *t, int row) {
    for (int32_t id = 0; id < V; id++)
        if (!memcmp(values(t, "prompt_embeddings") + row * D, embedding(t, id), D * sizeof(float))) return id;
    fail_msg("row %d is no token's embedding", row);
    return -1;
}

static int32_t id_of(char c) {
    return 2 + (unsigned char)c % 35;
}

static void test_initial_tables(void **state) {
    (void)state;
    tiny_t t;
    tiny_open(&t, tiny_llama, "{type: prompt_tuning, num_virtual_tokens: 50}", DT_F32);
    double low = 0, high = 0;
    for (int i = 0; i < 50 * D; i++) {
        low = fmin(low, (double)values(&t, "prompt_embeddings")[i]);
        high = fmax(high, (double)values(&t, "prompt_embeddings")[i]);
    }
    assert_true(low >= -0.5 && low < -0.49 && high < 0.5 && high > 0.49);
    tiny_close(&t);

    int seen = 0, count[V] = {0};
    tiny_open(&t, tiny_gpt2, "{type: prompt_tuning, num_virtual_tokens: 200, prompt_tuning_init: SAMPLE_VOCAB}",
              DT_F32);
    for (int i = 0; i < 200; i++) seen += count[token_of(&t, i)]++ == 0;
    assert_true(seen > 30); /* of 37; that 7 are missed by chance has probability 1e-6 */
    tiny_close(&t);

    const int32_t text[] = {1, id_of('h'), id_of('i')}, hi[] = {id_of('h'), id_of('i')}, k = id_of('k');
    tiny_open(&t, tiny_llama,
              "{type: prompt_tuning, num_virtual_tokens: 5, prompt_tuning_init: TEXT, "
              "prompt_tuning_init_text: hi, prompts: {field: task, values: [a, b]}}",
              DT_F32);
    for (int row = 0; row < 10; row++) assert_row(&t, row, &text[row % 5 % 3], 1);
    tiny_close(&t);
    tiny_open(&t, tiny_llama,
              "{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: TEXT, "
              "prompt_tuning_init_text: hi}",
              DT_F32);
    for (int row = 0; row < 2; row++) assert_row(&t, row, &text[row], 1); /* cut */
    tiny_close(&t);

    tiny_open(&t, tiny_llama,
              "{type: prompt_tuning, num_virtual_tokens: 4, prompt_tuning_init: CLASS_LABELS, "
              "prompt_tuning_init_labels: [hi, k], prompts: {field: task, values: [a, b]}}",
              DT_F32);
    for (int block = 0; block < 2; block++) {
        assert_row(&t, 4 * block, hi, 2);
        assert_row(&t, 4 * block + 1, &k, 1);
        token_of(&t, 4 * block + 2);
        token_of(&t, 4 * block + 3);
    }
    tiny_close(&t);
}

static double deviation(const tiny_t *t, const char *name, double *largest) {
    const param_t *p = &t->model.params.item[param_find(&t->model.params, name)];
    const float *x = p->value.data;
    double square = 0;
    *largest = 0;
    for (int64_t i = 0; i < view_count(&p->value); i++) {
        square += (double)x[i] * (double)x[i];
        *largest = fmax(*largest, fabs((double)x[i]));
    }
    return sqrt(square / (double)view_count(&p->value));
}

static void test_initial_encoders(void **state) {
    (void)state;
#define ENCODER "prompt_encoder.default."
    static const struct {
        const char *name;
        double bound; /* of the uniform distribution */
    } uniform[] = {
        {ENCODER "mlp_head.0.weight", 0.125},
        {ENCODER "mlp_head.0.bias", 0.125},
        {ENCODER "mlp_head.2.weight", 0.125},
        {ENCODER "lstm_head.weight_ih_l0", 0.17677670},
        {ENCODER "lstm_head.weight_hh_l1_reverse", 0.17677670},
        {ENCODER "lstm_head.bias_hh_l1", 0.17677670},
    };
    tiny_t t;
    double largest;
    tiny_open(&t, tiny_llama,
              "{type: p_tuning, num_virtual_tokens: 400, encoder_reparameterization_type: LSTM, encoder_hidden_size: "
              "32}",
              DT_F32);
    double d = deviation(&t, ENCODER "embedding.weight", &largest); /* 9600 normal values */
    assert_true(fabs(d - 1) < 0.03 && largest > 3 && largest < 6);
    for (size_t i = 0; i < sizeof uniform / sizeof *uniform; i++) {
        d = deviation(&t, uniform[i].name, &largest);
        if (!(fabs(d * sqrt(3) / uniform[i].bound - 1) < 0.2 && largest <= uniform[i].bound &&
              largest > 0.9 * uniform[i].bound))
            fail_msg("%s: deviation %g, largest %g", uniform[i].name, d, largest);
    }
    tiny_close(&t);
}

/* Of a method that was opened on a tiny model. */
static status_t result(tiny_t *t, const int32_t *label, method_result_t *out) {
    memset(out, 0, sizeof *out);
    return t->method->result(t->self, &t->model, &(method_choice_t){&t->layout, label}, out);
}

static void release(method_result_t *r) {
    json_decref(r->peft_config);
    free(r->tensor);
    free(r->memory);
}

static void test_result(void **state) {
    (void)state;
    tiny_t t, rows;
    batch_t b;
    method_result_t r;
    const int32_t second = 1;
    tiny_open(&t, tiny_llama, "{type: prompt_tuning, num_virtual_tokens: 3, prompts: {field: task, values: [a, b]}}",
              DT_F32);
    assert_int_equal(result(&t, NULL, &r), ST_USAGE);
    assert_non_null(strstr(st_message(), "task"));
    assert_non_null(strstr(st_message(), "a, b"));
    release(&r);
    ok(result(&t, &second, &r));
    assert_null(r.peft_lacks);
    assert_int_equal(r.n_tensor, 1);
    assert_string_equal(r.tensor[0].name, "prompt_embeddings");
    assert_true(r.tensor[0].rank == 2 && r.tensor[0].dim[0] == P && r.tensor[0].dim[1] == D);
    assert_memory_equal(r.tensor[0].data, values(&t, "prompt_embeddings") + P * D, P * D * sizeof(float));
    assert_string_equal(json_string_value(json_object_get(r.peft_config, "peft_type")), "PROMPT_TUNING");
    assert_int_equal(json_integer_value(json_object_get(r.peft_config, "num_virtual_tokens")), P);
    assert_null(json_object_get(r.peft_config, "graft"));
    release(&r);
    tiny_close(&t);

    tiny_open(&t, tiny_llama, "{type: p_tuning, num_virtual_tokens: 3, position: after_bos}", DT_F32);
    ok(result(&t, NULL, &r));
    assert_non_null(r.peft_lacks);
    /* folded rows are those of training, bit by bit */
    tiny_open(&rows, tiny_llama, "{type: prompt_tuning, num_virtual_tokens: 3, position: after_bos}", DT_F32);
    memcpy(values(&rows, "prompt_embeddings"), r.tensor[0].data, P * D * sizeof(float));
    tiny_batch(&b, &t, lengths, SEQS, 0);
    double encoded = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu}, &b, NULL);
    double folded = tiny_run(&rows, (tiny_how_t){.backend = &backend_cpu}, &b, NULL);
    assert_memory_equal(&encoded, &folded, sizeof folded);
    batch_release(&b);
    release(&r);
    tiny_close(&rows);
    tiny_close(&t);
}

static void test_bad_keys(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{type: prompt_tuning}", "missing key 'num_virtual_tokens' in method"},
        {"{type: prompt_tuning, num_virtual_tokens: 0}", "must be at least 1 and at most 65536, found '0'"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, position: behind}", "one of before, after_bos, after_prompt"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: TXT}", "(did you mean 'text'?)"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: text}", "needs 'prompt_tuning_init_text'"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init_text: a}",
         "'prompt_tuning_init_text' is only for prompt_tuning_init: TEXT; remove it"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: CLASS_LABELS}",
         "needs 'prompt_tuning_init_labels'"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: CLASS_LABELS, prompt_tuning_init_labels: "
         "[a, b, c]}",
         "3 labels in prompt_tuning_init_labels for 2 rows"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompt_tuning_init: RANDOM, init_from: x}",
         "exclude each other"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, init_from: x, prompt_tuning_init_text: a}", "remove it"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompts: [{field: a, values: [x]}, {field: b, values: [x]}]}",
         "names 2 fields"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, prompts: {field: a, values: [x], num_virtual_tokens: 3}}",
         "remove it from the prompts"},
        {"{type: prompt_tuning, num_virtual_tokens: 2, encoder_hidden_size: 3}", "unknown key 'encoder_hidden_size'"},
        {"{type: p_tuning, num_virtual_tokens: 2, encoder_num_layers: 2}", "only for the LSTM"},
        {"{type: p_tuning, num_virtual_tokens: 2, encoder_reparameterization_type: GRU}", "one of MLP, LSTM"},
        {"{type: p_tuning, num_virtual_tokens: 2, encoder_reparameterization_type: lstm, prompts: {field: a, values: "
         "[x, y]}}",
         "named prompts would depend on each other"},
    };
    tiny_t t;
    tiny_open(&t, tiny_llama, "{type: lora}", DT_F32);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[512];
        config_t c;
        void *self = NULL;
        snprintf(text, sizeof text, "model: m\nmethod: %s\ndata: {train: d.jsonl}\noutput_dir: o\n", bad[i][0]);
        status_t st = config_parse("run.yaml", text, strlen(text), NULL, 0, registry_methods(), &c);
        if (st == ST_OK) {
            st = method_find(c.method[0].type)->open(c.method[0].cfg, &t.model, &self);
            config_release(&c);
        }
        if (st != ST_USAGE || !strstr(st_message(), bad[i][1])) fail_msg("%s: %s", bad[i][0], st_message());
    }
    tiny_close(&t);
}

/* A PEFT directory with rows [3, 24]. */
static void write_adapter(const char *dir, const char *config) {
    char path[128];
    float rows[P * D];
    for (int i = 0; i < P * D; i++) rows[i] = (float)i;
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(config, f) >= 0);
    assert_int_equal(fclose(f), 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    ok(safetensors_write(path, &(safetensors_out_t){"prompt_embeddings", STORE_F32, 2, {P, D}, rows}, 1));
}

static void remove_adapter(const char *dir) {
    char path[128];
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    unlink(path);
    rmdir(dir);
}

static void test_bad_adapters(void **state) {
    (void)state;
    static const char *const bad[][2] = {
        {"{\"peft_type\": \"PROMPT_TUNING\"}", "num_virtual_tokens must be a number between 1 and 65536"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": \"3\"}", "num_virtual_tokens must be a number"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"token_dim\": 32}", "token_dim is 32"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"num_transformer_submodules\": 2}",
         "num_transformer_submodules must be 1, found 2"},
        {"{\"peft_type\": \"P_TUNING\", \"num_virtual_tokens\": 3, \"modules_to_save\": [\"head\"]}",
         "'modules_to_save' is not supported"},
        {"{\"peft_type\": \"P_TUNING\", \"num_virtual_tokens\": 3, \"encoder_reparameterization_type\": \"GRU\"}",
         "must be MLP or LSTM"},
        {"{\"peft_type\": \"P_TUNING\", \"num_virtual_tokens\": 3, \"encoder_hidden_size\": -1}",
         "encoder_hidden_size must be a number"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"graft\": {\"position\": 4}}",
         "graft.position is none of"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"graft\": {\"prompts\": {\"field\": \"a\"}}}",
         "graft.prompts must be {field, values}"},
        {"{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"graft\": {\"prompts\": {\"field\": \"a\", "
         "\"values\": [1]}}}",
         "values must be texts"},
    };
    char dir[] = "slot-XXXXXX";
    tiny_t t;
    assert_non_null(mkdtemp(dir));
    tiny_open(&t, tiny_llama, "{type: lora}", DT_F32);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        adapter_t *a = NULL;
        void *self = NULL;
        write_adapter(dir, bad[i][0]);
        ok(adapter_open(dir, &a));
        const method_t *m = method_find_peft(json_string_value(json_object_get(adapter_config(a), "peft_type")));
        status_t st = m->open_adapter(a, &t.model, &self);
        if (st != ST_INPUT || !strstr(st_message(), bad[i][1])) fail_msg("%s: %s", bad[i][0], st_message());
        adapter_close(a);
    }
    tiny_close(&t);
    remove_adapter(dir);
}

/* Folded rows can be gone on with as a prompt, not as an encoder. */
static void test_start(void **state) {
    (void)state;
    char dir[] = "slot-XXXXXX";
    tiny_t t;
    adapter_t *a = NULL;
    assert_non_null(mkdtemp(dir));
    write_adapter(dir, "{\"peft_type\": \"P_TUNING\", \"num_virtual_tokens\": 3}");
    ok(adapter_open(dir, &a));
    tiny_open(&t, tiny_llama, "{type: p_tuning, num_virtual_tokens: 3}", DT_F32);
    assert_int_equal(t.method->start(t.self, &t.model, a, 0, (int)t.model.params.count), ST_INPUT);
    assert_non_null(strstr(st_message(), "prompt_tuning can start from them"));
    tiny_close(&t);
    tiny_open(&t, tiny_llama, "{type: prompt_tuning, num_virtual_tokens: 3}", DT_F32);
    ok(t.method->start(t.self, &t.model, a, 0, (int)t.model.params.count));
    for (int i = 0; i < P * D; i++) assert_true(values(&t, "prompt_embeddings")[i] == (float)i);
    tiny_close(&t);
    tiny_open(&t, tiny_llama, "{type: prompt_tuning, num_virtual_tokens: 3, prompts: {field: task, values: [a, b]}}",
              DT_F32);
    assert_int_equal(t.method->start(t.self, &t.model, a, 0, (int)t.model.params.count), ST_INPUT);
    assert_non_null(strstr(st_message(), "other named prompts"));
    tiny_close(&t);
    adapter_close(a);
    remove_adapter(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_places),         cmocka_unit_test(test_named_is_alone),
        cmocka_unit_test(test_initial_tables), cmocka_unit_test(test_initial_encoders),
        cmocka_unit_test(test_result),         cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_bad_adapters),   cmocka_unit_test(test_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
