/* Exports for inference engines: what llama.cpp computes from a GGUF adapter is s B A, the file comes back as it was, a
 * prompt's rows stand where its README says; and what is refused, to write and to read. */
#include <ftw.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/gguf_write.h"
#include "data/safetensors.h"
#include "train/export/export.h"

enum { D = 16, F = 12, HEAD = 4, MOST = 4 * D * D };

static const char llama[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 9, \"hidden_size\": 16, \"num_hidden_layers\": 1,"
    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 12,"
    "\"max_position_embeddings\": 8, \"tie_word_embeddings\": true}";
static const char gpt2[] =
    "{\"model_type\": \"gpt2\", \"vocab_size\": 9, \"n_embd\": 16, \"n_layer\": 1, \"n_head\": 4,"
    "\"n_positions\": 8, \"n_inner\": 12}";

/* One LoRA pair under its names in both worlds. */
typedef struct pair {
    const char *module, *gguf;
    int64_t in, out, r;
    bool permuted;
} pair_t;

static const pair_t mixed[] = {{"model.layers.0.self_attn.q_proj", "blk.0.attn_q", D, D, 2, true},
                               {"model.layers.0.self_attn.k_proj", "blk.0.attn_k", D, D / 2, 3, true},
                               {"model.layers.0.mlp.down_proj", "blk.0.ffn_down", F, D, 2, false},
                               {NULL, NULL, 0, 0, 0, false}};
static const pair_t of_gpt2[] = {{"transformer.h.0.attn.c_attn", "blk.0.attn_qkv", D, 3 * D, 3, false},
                                 {"transformer.h.0.attn.c_proj", "blk.0.attn_output", D, D, 3, false},
                                 {"transformer.h.0.mlp.c_fc", "blk.0.ffn_up", D, F, 3, false},
                                 {NULL, NULL, 0, 0, 0, false}};

/* A method on a model whose weights do not matter. */
typedef struct subject {
    model_t model;
    const method_t *method;
    void *self;
    int first;
    virtual_layout_t layout;
} subject_t;

typedef struct place {
    char dir[64], adapter[96], out[96], file[128];
} place_t;

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

static void refused(status_t st, status_t as, const char *words) {
    if (st != as || !strstr(st_message(), words)) fail_msg("%s: %s", st_name(st), st_message());
}

static float value(int pair, bool b, int64_t i) {
    return (float)sin(1.0 + 37.0 * pair + 11.0 * b + 0.7 * (double)i);
}

static int set_up(void **state) {
    place_t *p = calloc(1, sizeof *p);
    assert_non_null(p);
    *state = p;
    snprintf(p->dir, sizeof p->dir, "engines-XXXXXX");
    assert_non_null(mkdtemp(p->dir));
    snprintf(p->adapter, sizeof p->adapter, "%s/adapter", p->dir);
    snprintf(p->out, sizeof p->out, "%s/out", p->dir);
    snprintf(p->file, sizeof p->file, "%s/adapter.gguf", p->out);
    assert_int_equal(mkdir(p->adapter, 0700), 0);
    return 0;
}

static int drop(const char *path, const struct stat *s, int type, struct FTW *at) {
    (void)s, (void)type, (void)at;
    return remove(path);
}

static int tear_down(void **state) {
    nftw(((place_t *)*state)->dir, drop, 8, FTW_DEPTH | FTW_PHYS);
    free(*state);
    return 0;
}

static void write_peft(const place_t *p, const char *config, const safetensors_out_t *t, int64_t n) {
    char path[256];
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", p->adapter);
    ok(safetensors_write(path, t, n));
    snprintf(path, sizeof path, "%s/adapter_config.json", p->adapter);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(config, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void write_lora(const place_t *p, const pair_t *pair, const char *config) {
    static float data[8][MOST];
    static char name[8][128];
    safetensors_out_t t[8];
    int64_t n = 0;
    for (int k = 0; pair[k].module; k++)
        for (int b = 0; b < 2; b++, n++) {
            snprintf(name[n], sizeof name[n], "base_model.model.%s.lora_%c.weight", pair[k].module, "AB"[b]);
            t[n] = (safetensors_out_t){.name = name[n], .store = STORE_F32, .rank = 2, .data = data[n]};
            t[n].dim[0] = b ? pair[k].out : pair[k].r;
            t[n].dim[1] = b ? pair[k].r : pair[k].in;
            for (int64_t i = 0; i < t[n].dim[0] * t[n].dim[1]; i++) data[n][i] = value(k, b, i);
        }
    write_peft(p, config, t, n);
}

static status_t attach(const char *path, const char *config, subject_t *s) {
    adapter_t *a = NULL;
    memset(s, 0, sizeof *s);
    json_t *c = json_loads(config, 0, NULL);
    ok(model_open_config(c, "config.json", DT_F32, &s->model));
    json_decref(c);
    status_t st = adapter_open(path, &a);
    if (st == ST_OK) st = adapter_bind(a, &s->model);
    s->first = (int)s->model.params.count;
    if (st == ST_OK) {
        s->method = method_find_peft(json_string_value(json_object_get(adapter_config(a), "peft_type")));
        assert_non_null(s->method);
        st = s->method->open_adapter(a, &s->model, &s->self);
    }
    if (st == ST_OK && s->method->place) ok(s->method->place(s->self, &s->layout));
    if (st == ST_OK) ok(param_set_alloc(&s->model.params, false));
    if (st == ST_OK) st = adapter_load(a, &s->model, s->first, (int)s->model.params.count);
    adapter_close(a);
    return st;
}

static void detach(subject_t *s) {
    if (s->self) s->method->close(s->self);
    virtual_release(&s->layout);
    model_close(&s->model);
}

static status_t run_export(subject_t *s, const char *format, const char *dir, int32_t label) {
    const export_format_t *f = NULL;
    ok(export_format_find(format, &f));
    export_source_t source = {.model = &s->model,
                              .method = s->method,
                              .method_self = s->self,
                              .first_param = s->first,
                              .last_param = (int)s->model.params.count,
                              .choice = {&s->layout, &label}};
    FILE *report = tmpfile();
    assert_non_null(report);
    status_t st = export_run(f, &source, dir, report);
    if (st == ST_OK) assert_true(ftell(report) > 0);
    fclose(report);
    return st;
}

static const tensor_info_t *find(const gguf_t *g, const char *base, const char *suffix) {
    char name[96];
    snprintf(name, sizeof name, "%s.weight.%s", base, suffix);
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        if (!strcmp(gguf_tensor_at(g, i)->name, name)) return gguf_tensor_at(g, i);
    fail_msg("%s is missing", name);
    return NULL;
}

/* Heads of four rows: in the GGUF they are rows 0, 2, 1, 3. */
static int64_t hf_row(const pair_t *p, int64_t row) {
    static const int64_t order[HEAD] = {0, 2, 1, 3};
    return p->permuted ? row / HEAD * HEAD + order[row % HEAD] : row;
}

/* alpha / r B A of the file, with llama.cpp's r, against scale B A of the adapter. */
static void check_pair(const gguf_t *g, const pair_t *p, int number, double scale) {
    double alpha;
    float a[MOST], b[MOST];
    const tensor_info_t *ta = find(g, p->gguf, "lora_a"), *tb = find(g, p->gguf, "lora_b");
    assert_true(gguf_get_f64(g, "adapter.lora.alpha", &alpha));
    assert_true(ta->dim[0] == p->r && ta->dim[1] == p->in && tb->dim[0] == p->out && tb->dim[1] == p->r);
    ok(tensor_info_read_f32(ta, 0, p->r * p->in, a));
    ok(tensor_info_read_f32(tb, 0, p->out * p->r, b));
    for (int64_t o = 0; o < p->out; o++)
        for (int64_t i = 0; i < p->in; i++) {
            double got = 0, want = 0;
            for (int64_t k = 0; k < p->r; k++) {
                got += alpha / (double)p->r * (double)b[o * p->r + k] * (double)a[k * p->in + i];
                want += scale * (double)value(number, true, hf_row(p, o) * p->r + k) *
                        (double)value(number, false, k * p->in + i);
            }
            if (!(fabs(got - want) < 2e-6)) fail_msg("%s[%d,%d]: %g, not %g", p->gguf, (int)o, (int)i, got, want);
        }
}

static void check_head(const gguf_t *g, const char *arch) {
    static const char *const keys[] = {"general.type", "adapter.type", "general.architecture"};
    const char *const wanted[] = {"adapter", "lora", arch};
    for (int i = 0; i < 3; i++) {
        const char *s;
        size_t n;
        assert_true(gguf_get_str(g, keys[i], &s, &n));
        assert_true(n == strlen(wanted[i]) && !memcmp(s, wanted[i], n));
    }
}

static void is_what_llama_cpp_adds(void **state) {
    place_t *p = *state;
    static const struct {
        const char *model, *arch, *config;
        const pair_t *pair;
        bool rslora;
        double file_alpha; /* alpha, and B as it is, where one alpha serves all */
    } cases[] = {
        {llama, "llama", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5}", mixed, false, 5},
        {llama, "llama", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5, \"use_rslora\": true}", mixed, true,
         7.0710678},
        {gpt2, "gpt2", "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5, \"use_rslora\": true}", of_gpt2, true,
         8.6602540},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        subject_t s;
        gguf_t *g = NULL;
        write_lora(p, cases[c].pair, cases[c].config);
        ok(attach(p->adapter, cases[c].model, &s));
        ok(run_export(&s, "gguf-adapter", p->out, -1));
        ok(gguf_open(p->file, &g));
        check_head(g, cases[c].arch);
        double alpha = 0;
        assert_true(gguf_get_f64(g, "adapter.lora.alpha", &alpha));
        assert_true(fabs(alpha - cases[c].file_alpha) < 1e-6);
        int n = 0;
        for (const pair_t *pair = cases[c].pair; pair[n].module; n++)
            check_pair(g, &pair[n], n, 5.0 / (cases[c].rslora ? sqrt((double)pair[n].r) : (double)pair[n].r));
        assert_int_equal(gguf_tensor_count(g), 2 * n);
        gguf_close(g);
        detach(&s);
    }
}

/* Bit by bit where one alpha serves all pairs. */
static void comes_back(void **state) {
    place_t *p = *state;
    subject_t s, back;
    write_lora(p, mixed, "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5}");
    ok(attach(p->adapter, llama, &s));
    ok(run_export(&s, "gguf-adapter", p->out, -1));
    ok(attach(p->file, llama, &back));
    assert_int_equal(back.model.params.count, s.model.params.count);
    for (int i = s.first; i < s.model.params.count; i++) {
        const param_t *x = &s.model.params.item[i], *y = &back.model.params.item[i];
        assert_string_equal(x->own, y->own);
        assert_memory_equal(x->value.data, y->value.data, view_bytes(&x->value));
    }
    for (int64_t i = 0; i < s.model.n_site; i++) {
        low_rank_t x, y;
        bool has = s.method->low_rank(s.self, &s.model, &s.model.site[i], &x);
        assert_int_equal(back.method->low_rank(back.self, &back.model, &back.model.site[i], &y), has);
        if (has) assert_true(x.scale == y.scale && x.r == y.r);
    }
    detach(&back);
    /* of another architecture */
    refused(attach(p->file, gpt2, &back), ST_INPUT, "another architecture than gpt2");
    detach(&back);
    detach(&s);
}

static void write_rows(const place_t *p, const char *config, int64_t rows) {
    static float data[6 * D];
    for (int i = 0; i < 6 * D; i++) data[i] = value(3, false, i);
    const safetensors_out_t t = {"prompt_embeddings", STORE_F32, 2, {rows, D}, data};
    write_peft(p, config, &t, 1);
}

static void readme_says(const place_t *p, const char *words) {
    char path[128], text[2048] = "";
    snprintf(path, sizeof path, "%s/README.md", p->out);
    FILE *f = fopen(path, "r");
    assert_non_null(f);
    assert_true(fread(text, 1, sizeof text - 1, f) > 0);
    fclose(f);
    if (!strstr(text, words)) fail_msg("%s", text);
}

static void check_rows(const place_t *p, int64_t first) {
    char path[128];
    float got[3 * D];
    safetensors_t *f = NULL;
    snprintf(path, sizeof path, "%s/prompt_embeddings.safetensors", p->out);
    ok(safetensors_open(path, &f));
    assert_int_equal(safetensors_count(f), 1);
    const tensor_info_t *t = safetensors_at(f, 0);
    assert_string_equal(t->name, "prompt_embeddings");
    assert_true(t->rank == 2 && t->dim[0] == 3 && t->dim[1] == D && t->store == STORE_F32);
    ok(tensor_info_read_f32(t, 0, 3 * D, got));
    for (int i = 0; i < 3 * D; i++) assert_true(got[i] == value(3, false, first * D + i));
    safetensors_close(f);
}

static void rows_stand_where_the_readme_says(void **state) {
    place_t *p = *state;
    static const char *const cases[][2] = {{"before", "in front of everything, BOS too"},
                                           {"after_bos", "behind BOS, in front of the text"},
                                           {"after_prompt", "behind the prompt, in front of the completion"}};
    subject_t s;
    for (int i = 0; i < 3; i++) {
        char config[160];
        snprintf(config, sizeof config,
                 "{\"peft_type\": \"%s\", \"num_virtual_tokens\": 3, \"graft\": {\"position\": \"%s\"}}",
                 "PROMPT_TUNING", cases[i][0]);
        write_rows(p, config, 3);
        ok(attach(p->adapter, llama, &s));
        ok(run_export(&s, "prompt-embeddings", p->out, -1));
        check_rows(p, 0);
        readme_says(p, cases[i][1]);
        readme_says(p, "- vLLM: yes");
        detach(&s);
    }
    write_rows(p,
               "{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3, \"graft\": {\"position\": \"before\", "
               "\"prompts\": {\"field\": \"task\", \"values\": [\"a\", \"b\"]}}}",
               6);
    ok(attach(p->adapter, llama, &s));
    refused(run_export(&s, "prompt-embeddings", p->out, -1), ST_USAGE, "--condition task=");
    ok(run_export(&s, "prompt-embeddings", p->out, 1));
    check_rows(p, 3);
    detach(&s);
}

static void others_are_refused(void **state) {
    place_t *p = *state;
    subject_t s;
    write_lora(p, mixed, "{\"peft_type\": \"LORA\", \"r\": 3, \"lora_alpha\": 5}");
    ok(attach(p->adapter, llama, &s));
    refused(run_export(&s, "prompt-embeddings", p->out, -1), ST_USAGE, "LORA has not learned rows");
    s.model.n_new = 1; /* as after special_tokens */
    const char *const special[] = {"<|new|>"};
    export_source_t source = {.model = &s.model, .method = s.method, .special = special, .n_special = 1};
    refused(export_refuse_added(&source, "--format gguf-adapter"), ST_USAGE, "'<|new|>' and the other special_tokens");
    s.model.n_new = 0;
    detach(&s);
    write_rows(p, "{\"peft_type\": \"PROMPT_TUNING\", \"num_virtual_tokens\": 3}", 3);
    ok(attach(p->adapter, llama, &s));
    refused(run_export(&s, "gguf-adapter", p->out, -1), ST_USAGE, "PROMPT_TUNING is no low-rank change");
    assert_int_not_equal(access(p->out, F_OK), 0); /* nothing was made */
    detach(&s);
}

/* A file of one pair on attn_v, changed by each case. */
static void bad_files_are_refused(void **state) {
    place_t *p = *state;
    static float data[MOST];
    static const gguf_out_kv_t good[] = {{"general.type", "adapter", 0},
                                         {"adapter.type", "lora", 0},
                                         {"general.architecture", "llama", 0},
                                         {"adapter.lora.alpha", NULL, 4}};
    static const gguf_out_t pair[] = {{"blk.0.attn_v.weight.lora_a", 2, {2, D}, data},
                                      {"blk.0.attn_v.weight.lora_b", 2, {D / 2, 2}, data},
                                      {"blk.0.attn_output.weight.lora_a", 2, {3, D}, data},
                                      {"blk.0.attn_output.weight.lora_b", 2, {D, 3}, data}};
    static const struct {
        int kv; /* changed: this one; -1: the tensor */
        gguf_out_kv_t with;
        gguf_out_t tensor;
        const char *words;
    } cases[] = {
        {0, {"general.type", "model", 0}, {NULL, 0, {0}, NULL}, "is a GGUF but no LoRA"},
        {1, {"adapter.type", "control", 0}, {NULL, 0, {0}, NULL}, "is a GGUF but no LoRA"},
        {2, {"general.architecture", "qwen2", 0}, {NULL, 0, {0}, NULL}, "another architecture than llama"},
        {3, {"adapter.lora.alpha", "4", 0}, {NULL, 0, {0}, NULL}, "alpha is no finite number"},
        {3, {"adapter.lora.alpha", NULL, NAN}, {NULL, 0, {0}, NULL}, "alpha is no finite number"},
        {3, {"adapter.lora.alpha", NULL, 0}, {NULL, 0, {0}, NULL}, "ranks from 2 to 3"},
        {-1, {0}, {"blk.0.attn_v.weight", 2, {2, D}, data}, "is none of a LoRA"},
        {-1, {0}, {"blk.0.attn_v.weight.lora_a", 1, {D}, data}, "is no matrix"},
        {-1, {0}, {"blk.7.attn_v.weight.lora_a", 2, {2, D}, data}, "fits nothing"},
        {-1, {0}, {"blk.0.attn_v.weight.lora_a", 2, {2, D + 1}, data}, "has shape [2, 17]"},
        {-1, {0}, {"blk.0.attn_v.weight.extra.lora_a", 2, {2, D}, data}, "fits nothing"},
    };
    assert_int_equal(mkdir(p->out, 0700), 0);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gguf_out_kv_t kv[4];
        gguf_out_t t[4];
        subject_t s;
        memcpy(kv, good, sizeof kv);
        memcpy(t, pair, sizeof t);
        if (cases[i].kv >= 0)
            kv[cases[i].kv] = cases[i].with;
        else
            t[0] = cases[i].tensor;
        ok(gguf_write(p->file, kv, 4, t, 4));
        refused(attach(p->file, llama, &s), ST_INPUT, cases[i].words);
        detach(&s);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(is_what_llama_cpp_adds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(comes_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rows_stand_where_the_readme_says, set_up, tear_down),
        cmocka_unit_test_setup_teardown(others_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_files_are_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
