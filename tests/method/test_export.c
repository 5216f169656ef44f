/* Exports of a LoRA on a one-layer GPT-2, whose matrices are stored transposed: the merged weights against W + s B A in
 * double, the adapter read back, and what is refused. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/safetensors.h"
#include "train/export/export.h"

enum { V = 7, D = 4, P = 5, F = 6, RANK = 3, ALPHA = 5 };

static const struct {
    const char *name;
    int64_t rows, cols; /* as transformers stores them; cols 0: a vector */
} tensors[] = {
    {"transformer.wte.weight", V, D},
    {"transformer.wpe.weight", P, D},
    {"transformer.h.0.ln_1.weight", D, 0},
    {"transformer.h.0.ln_1.bias", D, 0},
    {"transformer.h.0.attn.c_attn.weight", D, 3 * D},
    {"transformer.h.0.attn.c_attn.bias", 3 * D, 0},
    {"transformer.h.0.attn.c_proj.weight", D, D},
    {"transformer.h.0.attn.c_proj.bias", D, 0},
    {"transformer.h.0.ln_2.weight", D, 0},
    {"transformer.h.0.ln_2.bias", D, 0},
    {"transformer.h.0.mlp.c_fc.weight", D, F},
    {"transformer.h.0.mlp.c_fc.bias", F, 0},
    {"transformer.h.0.mlp.c_proj.weight", F, D},
    {"transformer.h.0.mlp.c_proj.bias", D, 0},
    {"transformer.ln_f.weight", D, 0},
    {"transformer.ln_f.bias", D, 0},
};
enum { TENSORS = sizeof tensors / sizeof *tensors };
#define TARGET      "transformer.h.0.attn.c_attn"
#define LORA(which) "base_model.model." TARGET ".lora_" which ".weight"

static float value(int tensor, int64_t i) {
    return (float)sin(1.0 + 37.0 * tensor + 0.7 * (double)i);
}
static float a_value(int64_t i) {
    return (float)cos(0.3 * (double)i);
}
static float b_value(int64_t i) {
    return (float)cos(2.0 + 0.9 * (double)i);
}

typedef struct fixture {
    char dir[64], base[96], adapter[96], out[96];
    weights_t *weights;
    model_t model;
    const method_t *method;
    void *self;
} fixture_t;

static void write_text(const char *dir, const char *name, const char *text) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s", st_message());
}

static void write_base(const char *dir) {
    safetensors_out_t row[TENSORS];
    static float data[TENSORS][64];
    for (int t = 0; t < TENSORS; t++) {
        int64_t n = tensors[t].rows * (tensors[t].cols ? tensors[t].cols : 1);
        for (int64_t i = 0; i < n; i++) data[t][i] = value(t, i);
        row[t] = (safetensors_out_t){
            tensors[t].name, STORE_F32, tensors[t].cols ? 2 : 1, {tensors[t].rows, tensors[t].cols}, data[t]};
    }
    char path[256];
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    ok(safetensors_write(path, row, TENSORS));
    write_text(dir, "config.json",
               "{\"model_type\": \"gpt2\", \"vocab_size\": 7, \"n_embd\": 4, \"n_layer\": 1, \"n_head\": 2, "
               "\"n_positions\": 5, \"n_inner\": 6, \"torch_dtype\": \"bfloat16\", \"kept\": 3}");
    write_text(dir, "tokenizer.json", "{}");
}

static void write_adapter(const char *dir) {
    float a[RANK * D], b[3 * D * RANK];
    for (int i = 0; i < RANK * D; i++) a[i] = a_value(i);
    for (int i = 0; i < 3 * D * RANK; i++) b[i] = b_value(i);
    const safetensors_out_t row[] = {{LORA("A"), STORE_F32, 2, {RANK, D}, a},
                                     {LORA("B"), STORE_F32, 2, {3 * D, RANK}, b}};
    char path[256];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", dir);
    ok(safetensors_write(path, row, 2));
    write_text(dir, "adapter_config.json", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5}");
}

static void open_model(fixture_t *f) {
    adapter_t *a = NULL;
    ok(weights_open(f->base, &f->weights));
    ok(model_open(f->weights, DT_F32, &f->model));
    ok(adapter_open(f->adapter, &a));
    f->method = method_find_peft("LORA");
    assert_non_null(f->method);
    ok(f->method->open_adapter(a, &f->model, &f->self));
    ok(param_set_alloc(&f->model.params, false));
    ok(model_load(&f->model, f->weights));
    ok(adapter_load(a, &f->model, 0, (int)f->model.params.count));
    adapter_close(a);
}

static int set_up(void **state) {
    fixture_t *f = calloc(1, sizeof *f);
    assert_non_null(f);
    *state = f;
    snprintf(f->dir, sizeof f->dir, "export-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->base, sizeof f->base, "%s/base", f->dir);
    snprintf(f->adapter, sizeof f->adapter, "%s/adapter", f->dir);
    snprintf(f->out, sizeof f->out, "%s/out", f->dir);
    assert_int_equal(mkdir(f->base, 0700) | mkdir(f->adapter, 0700), 0);
    write_base(f->base);
    write_adapter(f->adapter);
    open_model(f);
    return 0;
}

static int drop(const char *path, const struct stat *s, int type, struct FTW *at) {
    (void)s, (void)type, (void)at;
    return remove(path);
}

static int tear_down(void **state) {
    fixture_t *f = *state;
    f->method->close(f->self);
    model_close(&f->model);
    weights_close(f->weights);
    nftw(f->dir, drop, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

static status_t run_export(fixture_t *f, const char *format) {
    const export_format_t *found = NULL;
    ok(export_format_find(format, &found));
    export_source_t s = {.weights = f->weights,
                         .config = weights_config(f->weights),
                         .tokenizer_dir = f->base,
                         .model = &f->model,
                         .method = f->method,
                         .method_self = f->self,
                         .last_param = (int)f->model.params.count};
    FILE *report = tmpfile();
    assert_non_null(report);
    status_t st = export_run(found, &s, f->out, report);
    if (st == ST_OK) assert_true(ftell(report) > 0);
    fclose(report);
    return st;
}

/* W[in][out] of the target with the change added, as the definition says. */
static double merged_value(int t, int64_t i) {
    double v = (double)value(t, i);
    if (strcmp(tensors[t].name, TARGET ".weight")) return v;
    int64_t in = i / (3 * D), out = i % (3 * D);
    double sum = 0;
    for (int k = 0; k < RANK; k++) sum += (double)b_value(out * RANK + k) * (double)a_value(k * D + in);
    return v + (double)ALPHA / RANK * sum;
}

static void merges_as_defined(void **state) {
    fixture_t *f = *state;
    ok(run_export(f, "merged-safetensors"));
    weights_t *w = NULL;
    ok(weights_open(f->out, &w));
    assert_int_equal(weights_count(w), TENSORS); /* the head is tied: no lm_head */
    for (int t = 0; t < TENSORS; t++) {
        const tensor_info_t *x = weights_find(w, tensors[t].name);
        float got[64];
        assert_non_null(x);
        assert_int_equal(x->dim[0], tensors[t].rows);
        if (tensors[t].cols) assert_int_equal(x->dim[1], tensors[t].cols);
        ok(tensor_info_read_f32(x, 0, tensor_info_count(x), got));
        for (int64_t i = 0; i < tensor_info_count(x); i++)
            if (!(fabs((double)got[i] - merged_value(t, i)) < 2e-6))
                fail_msg("%s[%d]: %g, not %g", tensors[t].name, (int)i, (double)got[i], merged_value(t, i));
    }
    const json_t *c = weights_config(w);
    assert_string_equal(json_string_value(json_object_get(c, "torch_dtype")), "float32");
    assert_int_equal(json_integer_value(json_object_get(c, "kept")), 3);
    weights_close(w);
    char path[128];
    snprintf(path, sizeof path, "%s/tokenizer.json", f->out);
    assert_int_equal(access(path, R_OK), 0);
}

static void adapter_comes_back(void **state) {
    fixture_t *f = *state;
    ok(run_export(f, "peft"));
    ok(run_export(f, "peft")); /* over an earlier one */
    adapter_t *a = NULL;
    ok(adapter_open(f->out, &a));
    assert_int_equal(adapter_count(a), 2);
    assert_int_equal(json_integer_value(json_object_get(adapter_config(a), "r")), RANK);
    assert_int_equal(json_integer_value(json_object_get(adapter_config(a), "lora_alpha")), ALPHA);
    assert_true(json_is_true(json_object_get(adapter_config(a), "fan_in_fan_out")));
    assert_null(json_object_get(adapter_config(a), "peft_version"));
    assert_string_equal(adapter_base_path(a), f->base);
    int index = param_find(&f->model.params, LORA("A"));
    assert_true(index >= 0);
    float *values = f->model.params.item[index].value.data;
    memset(values, 0, RANK * D * sizeof *values);
    ok(adapter_load(a, &f->model, 0, (int)f->model.params.count));
    for (int i = 0; i < RANK * D; i++) assert_memory_equal(&values[i], &(float){a_value(i)}, sizeof(float));
    adapter_close(a);
}

static void other_directories_are_left_alone(void **state) {
    fixture_t *f = *state;
    char path[128];
    snprintf(path, sizeof path, "%s/notes.txt", f->out);
    assert_int_equal(mkdir(f->out, 0700), 0);
    write_text(f->out, "notes.txt", "mine");
    assert_int_equal(run_export(f, "peft"), ST_USAGE);
    assert_non_null(strstr(st_message(), "notes.txt"));
    assert_int_equal(run_export(f, "merged-safetensors"), ST_USAGE);
    assert_int_equal(access(path, R_OK), 0);
    /* an adapter that somebody else wrote, though its files have the right names */
    snprintf(f->out, sizeof f->out, "%s", f->adapter);
    assert_int_equal(run_export(f, "peft"), ST_USAGE);
    snprintf(path, sizeof path, "%s/adapter_config.json", f->adapter);
    assert_int_equal(access(path, R_OK), 0);
}

static void unknown_formats_are_listed(void **state) {
    (void)state;
    const export_format_t *found = NULL;
    assert_int_equal(export_format_find("onnx", &found), ST_USAGE);
    assert_non_null(strstr(st_message(), "peft, merged-safetensors"));
    assert_null(found);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_as_defined, set_up, tear_down),
        cmocka_unit_test_setup_teardown(adapter_comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_directories_are_left_alone, set_up, tear_down),
        cmocka_unit_test(unknown_formats_are_listed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
