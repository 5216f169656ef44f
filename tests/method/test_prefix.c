/* What only prefixes promise: a text's keys and values are the text, a control prefix is the prefix that its export
 * says, and what configurations may not ask for. */
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

enum { LENGTH = 7, MAX_TOKENS = 64 };
static const char *const families_tested[] = {tiny_llama, tiny_gpt2};

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

/* LENGTH made-up tokens behind n given ones; every one of them but the first is a target. */
static void fill(batch_t *b, const virtual_layout_t *layout, const int32_t *before, int64_t n) {
    float weight[MAX_TOKENS] = {0};
    sequence_t s = {.weight = weight, .weight_cap = MAX_TOKENS};
    sequence_clear(&s);
    for (int64_t i = 0; i < n; i++) ok(i32buf_push(&s.ids, before[i]));
    for (int64_t i = 0; i < LENGTH; i++) {
        ok(i32buf_push(&s.ids, (int32_t)(3 + 5 * i) % 37));
        weight[n + i] = i ? 0.5f + (float)i : 0;
    }
    ok(batch_init(b, MAX_TOKENS));
    batch_clear(b);
    ok(batch_add(b, layout, &s, 0));
    i32buf_release(&s.ids);
}

/* The prefix of `n` tokens made from a text is these tokens: BOS and one for each letter, cut or repeated. */
static void check_text(const char *family, int n) {
    static const int32_t once[] = {1, 2 + 'o' % 35, 2 + 'a' % 35, 2 + 'k' % 35};
    const tiny_how_t how = {.backend = &backend_ref_f64}, bare = {.backend = &backend_ref_f64, .bare = true};
    char method[128];
    int32_t tokens[MAX_TOKENS];
    tiny_t t;
    batch_t with, without;
    for (int i = 0; i < n; i++) tokens[i] = once[i % 4];
    snprintf(method, sizeof method, "{type: prefix_tuning, num_virtual_tokens: %d, init_weights: text, init_text: oak}",
             n);
    tiny_open(&t, family, method, DT_F64);
    fill(&with, &t.layout, NULL, 0);
    fill(&without, &(virtual_layout_t){0}, tokens, n);
    double a = tiny_run(&t, how, &with, NULL), b = tiny_run(&t, bare, &without, NULL);
    assert_true(b > 1 && fabs(a - b) <= 1e-12 * b);
    batch_release(&with);
    batch_release(&without);
    tiny_close(&t);
}

static void test_text(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        check_text(families_tested[i], 4);
        check_text(families_tested[i], 2);
        check_text(families_tested[i], 11);
    }
}

/* Rows that labels add to a text start at zero. */
static void test_text_of_a_control_prefix(void **state) {
    (void)state;
    tiny_t t, plain;
    tiny_open(&plain, tiny_llama, "{type: prefix_tuning, num_virtual_tokens: 3, init_weights: text, init_text: oak}",
              DT_F32);
    tiny_open(&t, tiny_llama,
              "{type: control_prefix, num_virtual_tokens: 3, init_weights: text, init_text: oak, attributes: "
              "[{field: task, values: [a, b], num_virtual_tokens: 2}]}",
              DT_F32);
    const float *x = t.model.params.trainable, *y = plain.model.params.trainable;
    int64_t n = plain.model.params.n_trainable, labels = t.model.params.n_trainable - n;
    for (int64_t i = 0; i < labels; i++) assert_true(x[i] == 0);
    assert_memory_equal(x + labels, y, (size_t)n * sizeof *x);
    tiny_close(&t);
    tiny_close(&plain);
}

#define CONTROL                                                                                                        \
    "{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: task, values: [a, b], num_virtual_tokens: 3}," \
    "{field: style, values: [x, y, z], num_virtual_tokens: 1}]"

static void release(method_result_t *r) {
    json_decref(r->peft_config);
    free(r->tensor);
    free(r->memory);
}

/* The example `number` under the labels that tiny_batch gives it, and under the exported prefix of these labels. */
static void check_choice(tiny_t *t, const char *family, int64_t number, const int32_t *label) {
    const int32_t length = 9;
    const tiny_how_t how = {.backend = &backend_cpu};
    const method_choice_t choice = {&t->layout, label};
    method_result_t r = {0};
    tiny_t plain;
    batch_t b;
    ok(t->method->result(t->self, &t->model, &choice, &r));
    assert_string_equal(json_string_value(json_object_get(r.peft_config, "peft_type")), "PREFIX_TUNING");
    assert_null(json_object_get(r.peft_config, "graft"));
    assert_false(json_is_true(json_object_get(r.peft_config, "prefix_projection")));
    tiny_open(&plain, family, "{type: prefix_tuning, num_virtual_tokens: 6}", DT_F32);
    const param_t *p = &plain.model.params.item[plain.model.params.count - 1];
    assert_int_equal(r.n_tensor, 1);
    assert_string_equal(r.tensor[0].name, p->own);
    assert_true(r.tensor[0].dim[0] == p->value.dim[0] && r.tensor[0].dim[1] == p->value.dim[1]);
    memcpy(p->value.data, r.tensor[0].data, view_bytes(&p->value));
    tiny_batch(&b, t, &length, 1, number);
    double labelled = tiny_run(t, how, &b, NULL);
    batch_release(&b);
    tiny_batch(&b, &plain, &length, 1, number);
    double exported = tiny_run(&plain, how, &b, NULL);
    batch_release(&b);
    assert_true(exported > 1 && fabs(labelled - exported) <= 1e-6 * exported);
    tiny_close(&plain);
    release(&r);
}

static void test_choice(void **state) {
    static const char *const forms[] = {CONTROL "}", CONTROL ", prefix_projection: true, encoder_hidden_size: 5}"};
    (void)state;
    for (int i = 0; i < 4; i++) {
        tiny_t t;
        tiny_open(&t, families_tested[i % 2], forms[i / 2], DT_F32);
        tiny_randomize(&t);
        for (int32_t number = 0; number < 12; number++) {
            const int32_t label[] = {number % 3 - 1, number % 4 - 1};
            if (label[0] >= 0 && label[1] >= 0) check_choice(&t, families_tested[i % 2], number, label);
        }
        tiny_close(&t);
    }
}

static void expect_refusal(tiny_t *t, const int32_t *label) {
    const method_choice_t choice = {&t->layout, label};
    method_result_t r = {0};
    assert_int_equal(t->method->result(t->self, &t->model, &choice, &r), ST_USAGE);
    assert_non_null(strstr(st_message(), "task (a, b); style (x, y, z)"));
    release(&r);
    st_clear();
}

static void test_no_choice(void **state) {
    (void)state;
    static const int32_t half[] = {1, -1};
    tiny_t t;
    tiny_open(&t, tiny_llama, CONTROL "}", DT_F32);
    expect_refusal(&t, NULL);
    expect_refusal(&t, half);
    tiny_close(&t);
}

/* A configuration and a part of the message that refuses it. */
static const char *const refused[][2] = {
    {"{type: prefix_tuning}", "num_virtual_tokens"},
    {"{type: prefix_tuning, num_virtual_tokens: 0}", "num_virtual_tokens"},
    {"{type: prefix_tuning, num_virtual_tokens: 99999999}", "num_virtual_tokens"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, encoder_hidden_size: 4}", "prefix_projection"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, init_weights: text}", "init_text"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, init_text: oak}", "init_weights: text"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, init_weights: txt}", "init_weights"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, prefix_projection: true, init_weights: text, init_text: oak}",
     "projection"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, prompts: [{field: a, values: [x]}, {field: b, values: [x]}]}",
     "control_prefix"},
    {"{type: prefix_tuning, num_virtual_tokens: 2, prompts: {field: a, values: [x], num_virtual_tokens: 2}}",
     "num_virtual_tokens"},
    {"{type: control_prefix, num_virtual_tokens: 2}", "attributes"},
    {"{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: a, values: [x]}]}", "num_virtual_tokens"},
    {"{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: a, values: [], num_virtual_tokens: 1}]}",
     "values"},
    {"{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: a, values: [x, x], num_virtual_tokens: 1}]}",
     "x"},
    {"{type: control_prefix, num_virtual_tokens: 2, prompts: {field: a, values: [x]}}", "prompts"},
};

static void test_bad_configurations(void **state) {
    (void)state;
    tiny_t t;
    tiny_open(&t, tiny_llama, NULL, DT_F32);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        char text[1024];
        config_t c = {0};
        void *self = NULL;
        snprintf(text, sizeof text,
                 "model: m\nmethod: %s\ndata: {train: d.jsonl, format: text, max_seq_length: 32}\ntraining: "
                 "{global_batch_size: 4, micro_batch_tokens: 64, max_steps: 5, learning_rate: 1.0e-3}\noutput_dir: o\n",
                 refused[i][0]);
        status_t st = config_parse("test.yaml", text, strlen(text), NULL, 0, registry_methods(), &c);
        if (st == ST_OK) {
            const method_t *m = method_find(c.method[0].type);
            st = m->open(c.method[0].cfg, &t.model, &self);
            if (st == ST_OK) m->close(self);
        }
        if (st != ST_USAGE || !strstr(st_message(), refused[i][1]))
            fail_msg("%s: %s: %s", refused[i][0], st_name(st), st_message());
        st_clear();
        config_release(&c);
    }
    tiny_close(&t);
}

/* What adapter_config.json says, the columns of a table of three rows, and a part of the message. */
#define PEFT(more)   "{\"peft_type\": \"PREFIX_TUNING\"" more "}"
#define BLOCKS(text) PEFT(", \"graft\": {\"encoder\": 0, \"blocks\": " text "}")
static const struct {
    const char *config;
    int64_t cols;
    const char *message;
} damaged[] = {
    {PEFT(""), 0, "prompt_embeddings"},
    {PEFT(", \"num_virtual_tokens\": 4"), 32, "num_virtual_tokens"},
    {PEFT(", \"num_virtual_tokens\": \"3\""), 32, "num_virtual_tokens"},
    {PEFT(", \"num_transformer_submodules\": 2"), 32, "num_transformer_submodules"},
    {PEFT(", \"num_layers\": 3"), 32, "num_layers"},
    {PEFT(", \"num_attention_heads\": 3"), 32, "num_attention_heads"},
    {PEFT(", \"token_dim\": 24"), 32, "token_dim"},
    {PEFT(", \"graft\": 7"), 32, "encoder"},
    {PEFT(", \"graft\": {\"encoder\": -1, \"blocks\": []}"), 32, "encoder"},
    {BLOCKS("[]"), 32, "blocks"},
    {BLOCKS("[{\"num_virtual_tokens\": 0}]"), 32, "num_virtual_tokens"},
    {BLOCKS("[{\"num_virtual_tokens\": 1, \"field\": \"a\", \"values\": []}]"), 32, "values"},
    {BLOCKS("[{\"num_virtual_tokens\": 1, \"field\": \"a\", \"values\": [1]}]"), 32, "values"},
    {"{\"peft_type\": \"CONTROL_PREFIX\"}", 32, "graft"},
};

static void write_adapter(const char *dir, const char *config, int64_t cols) {
    char path[600];
    const float zero[3 * 32] = {0};
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_true(fputs(config, f) >= 0);
    assert_int_equal(fclose(f), 0);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    ok(safetensors_write(path, &(safetensors_out_t){"prompt_embeddings", STORE_F32, cols ? 2 : 1, {3, cols}, zero}, 1));
}

static void test_damaged_adapters(void **state) {
    (void)state;
    const char *base = getenv("TMPDIR");
    char dir[512], path[600];
    tiny_t t;
    tiny_open(&t, tiny_llama, NULL, DT_F32);
    snprintf(dir, sizeof dir, "%s/graft-prefix-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        adapter_t *a = NULL;
        void *self = NULL;
        write_adapter(dir, damaged[i].config, damaged[i].cols);
        ok(adapter_open(dir, &a));
        const method_t *m = method_find_peft(json_string_value(json_object_get(adapter_config(a), "peft_type")));
        assert_non_null(m);
        status_t st = m->open_adapter(a, &t.model, &self);
        if (st != ST_INPUT || !strstr(st_message(), damaged[i].message))
            fail_msg("%s: %s: %s", damaged[i].config, st_name(st), st_message());
        st_clear();
        adapter_close(a);
    }
    snprintf(path, sizeof path, "%s/adapter_config.json", dir);
    unlink(path);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    unlink(path);
    assert_int_equal(rmdir(dir), 0);
    tiny_close(&t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_text_of_a_control_prefix),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_no_choice),
        cmocka_unit_test(test_bad_configurations),
        cmocka_unit_test(test_damaged_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
