#include "tests/common/tiny_model.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "data/safetensors.h"
#include "kernels/philox.h"
#include "train/objectives/objective.h"
#include "train/run/micro.h"
#include "train/run/registry.h"

const char tiny_llama[] =
    "{\"model_type\": \"llama\", \"vocab_size\": 37, \"hidden_size\": 24, \"num_hidden_layers\": 2,"
    "\"num_attention_heads\": 3, \"num_key_value_heads\": 1, \"intermediate_size\": 20,"
    "\"max_position_embeddings\": 64, \"tie_word_embeddings\": true}";
const char tiny_gpt2[] = "{\"model_type\": \"gpt2\", \"vocab_size\": 37, \"n_embd\": 24, \"n_layer\": 2, \"n_head\": 3,"
                         "\"n_positions\": 64, \"n_inner\": 28}";

enum { ROOM = 37 }; /* of a device's tape beyond the batch, so that the batch is padded */

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

static status_t encode(const void *self, const char *text, size_t n, i32buf_t *ids) {
    (void)self;
    for (size_t i = 0; i < n; i++) TRY(i32buf_push(ids, 2 + (unsigned char)text[i] % 35));
    return ST_OK;
}
static int32_t token_id(const void *self, const char *text) {
    (void)self, (void)text;
    return -1;
}
static const int32_t bos = 1;
const encoder_t tiny_encoder = {.encode = encode, .token_id = token_id, .prefix = &bos, .n_prefix = 1, .eos = -1};

static double uniform(uint64_t stream, uint64_t index) {
    uint32_t word[4];
    rng_words(29, RNG_SAMPLE, stream, index, word);
    return 2 * (double)rng_unit(word[0]) - 1;
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n >= m && !strcmp(s + n - m, end);
}

/* Norm weights lie around 1, everything else around 0. */
static float *random_tensor(const char *name, bool norm, int64_t n) {
    float *x = calloc((size_t)n, sizeof *x);
    assert_non_null(x);
    uint64_t stream = 0;
    for (const char *c = name; *c; c++) stream = stream * 131 + (unsigned char)*c;
    for (int64_t i = 0; i < n; i++) x[i] = (float)((norm ? 1.0 : 0.0) + 0.4 * uniform(stream, (uint64_t)i));
    return x;
}

/* What the family declares, as a file would have it. */
static void write_weights(const char *path, const model_t *m) {
    safetensors_out_t *out = calloc((size_t)m->n_weight, sizeof *out);
    assert_non_null(out);
    for (int64_t i = 0; i < m->n_weight; i++) {
        const model_weight_t *w = &m->weight[i];
        const view_t *v = &m->params.item[w->param].value;
        bool turn = w->flags & WEIGHT_TRANSPOSED, norm = v->rank == 1 && ends_with(w->hf, ".weight");
        out[i] = (safetensors_out_t){.name = w->hf, .store = STORE_F32, .rank = v->rank};
        for (int k = 0; k < v->rank; k++) out[i].dim[k] = v->dim[turn ? v->rank - 1 - k : k];
        out[i].data = random_tensor(w->hf, norm, view_count(v));
    }
    ok(safetensors_write(path, out, m->n_weight));
    for (int64_t i = 0; i < m->n_weight; i++) free((float *)(uintptr_t)out[i].data);
    free(out);
}

static void read_method(tiny_t *t, const char *method) {
    char text[1024];
    snprintf(text, sizeof text,
             "model: m\nmethod: %s\ndata: {train: d.jsonl, format: text, max_seq_length: 32}\n"
             "training: {global_batch_size: 4, micro_batch_tokens: 64, max_steps: 5, learning_rate: 1.0e-3, seed: 5}\n"
             "output_dir: o\n",
             method);
    ok(config_parse("test.yaml", text, strlen(text), NULL, 0, registry_methods(), &t->config));
    assert_in_range(t->config.method_count, 1, 2);
    t->method = method_find(t->config.method[0].type);
    assert_non_null(t->method);
}

static void open_method(tiny_t *t, int i, void **self) {
    const method_t *m = method_find(t->config.method[i].type);
    ok(m->open(t->config.method[i].cfg, &t->model, self));
    if (m->place) ok(m->place(*self, &t->layout));
    t->hook[t->n_hook++] = m->hook(*self);
}

void tiny_open(tiny_t *t, const char *config_json, const char *method, dtype_t real) {
    tiny_open_grown(t, config_json, method, real, 0, NULL, 0);
}

void tiny_open_grown(tiny_t *t, const char *config_json, const char *method, dtype_t real, int64_t first,
                     const char *const *text, int n) {
    const char *base = getenv("TMPDIR");
    char dir[512], config[600], file[600];
    memset(t, 0, sizeof *t);
    snprintf(dir, sizeof dir, "%s/graft-tiny-XXXXXX", base ? base : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(config, sizeof config, "%s/config.json", dir);
    snprintf(file, sizeof file, "%s/model.safetensors", dir);
    FILE *f = fopen(config, "wb");
    assert_non_null(f);
    assert_true(fputs(config_json, f) >= 0);
    assert_int_equal(fclose(f), 0);
    /* a directory with one unrelated tensor is enough to learn which tensors the family wants */
    const float zero = 0;
    ok(safetensors_write(file, &(safetensors_out_t){"none", STORE_F32, 1, {1}, &zero}, 1));
    weights_t *w;
    ok(weights_open(dir, &w));
    ok(model_open(w, real, &t->model));
    write_weights(file, &t->model);
    model_close(&t->model);
    weights_close(w);

    ok(weights_open(dir, &w));
    ok(model_open(w, real, &t->model));
    if (n) ok(model_grow(&t->model, first, n));
    if (method) {
        read_method(t, method);
        open_method(t, 0, &t->self);
        if (t->config.method_count > 1) open_method(t, 1, &t->second);
        ok(objective_open(&t->config.objective, &t->model, NULL, &t->goal));
    } else {
        for (int i = 0; i < t->model.params.count; i++) param_train(&t->model.params, i);
    }
    ok(model_train_new(&t->model));
    ok(param_set_alloc(&t->model.params, true));
    ok(model_load(&t->model, w));
    model_init_new(&t->model, text, 11);
    const method_init_t in = {
        .encoder = &tiny_encoder, .backend = real == DT_F64 ? &backend_ref_f64 : &backend_cpu, .seed = 11};
    if (method) ok(t->method->init(t->self, &t->model, &in));
    if (t->second) ok(method_find(t->config.method[1].type)->init(t->second, &t->model, &in));
    weights_close(w);
    unlink(config);
    unlink(file);
    assert_int_equal(rmdir(dir), 0);
}

void tiny_close(tiny_t *t) {
    if (t->method) t->method->close(t->self);
    if (t->second) method_find(t->config.method[1].type)->close(t->second);
    virtual_release(&t->layout);
    model_close(&t->model);
    config_release(&t->config);
}

void tiny_randomize(tiny_t *t) {
    const param_set_t *s = &t->model.params;
    for (int64_t i = 0; i < s->n_trainable; i++) {
        float x = (float)(0.5 * uniform(77, (uint64_t)i));
        if (s->real == DT_F64)
            ((double *)s->trainable)[i] = (double)x;
        else
            ((float *)s->trainable)[i] = x;
    }
}

static void fill_sequence(sequence_t *s, const tiny_t *t, uint64_t number, int32_t length) {
    sequence_clear(s);
    for (int32_t k = 0; k < length; k++) {
        uint32_t word[4];
        rng_words(3, RNG_SAMPLE, number, (uint64_t)k, word);
        ok(i32buf_push(&s->ids, (int32_t)(word[0] % (uint32_t)t->model.config.vocab)));
        s->weight[k] = word[1] % 4 == 0 ? 0 : 0.25f + rng_unit(word[2]);
    }
    s->n_prefix = length > 1;
    s->n_prompt = length / 2;
    s->score = (double)number / 4;
    for (int f = 0; f < t->layout.n_field; f++) {
        const virtual_field_t *field = &t->layout.field[f];
        s->label[f] = (int32_t)(number % (uint64_t)(field->n + field->optional)) - field->optional;
    }
}

static void make_batch(batch_t *b, const tiny_t *t, const int32_t *length, int64_t n, int64_t first, bool share) {
    const int64_t more = virtual_slots(&t->layout) + virtual_prefix(&t->layout);
    int64_t total = n * (1 + more) + more;
    float weight[64];
    sequence_t s = {.weight = weight, .weight_cap = 64};
    for (int64_t i = 0; i < n; i++) total += length[i];
    ok(batch_init(b, total));
    b->share = share;
    batch_clear(b);
    for (int64_t i = 0; i < n; i++) {
        assert_true(length[i] <= 64);
        fill_sequence(&s, t, (uint64_t)(first + i), length[i]);
        ok(batch_add(b, &t->layout, &s, first + i));
    }
    i32buf_release(&s.ids);
}

void tiny_batch(batch_t *b, const tiny_t *t, const int32_t *length, int64_t n, int64_t first) {
    make_batch(b, t, length, n, first, false);
}

void tiny_batch_shared(batch_t *b, const tiny_t *t, const int32_t *length, int64_t n, int64_t first) {
    make_batch(b, t, length, n, first, true);
}

/* Backward into the device's gradients, which are added to `grad`. */
static void backward_on_device(const build_t *build, const param_set_t *p, float *grad) {
    size_t bytes = (size_t)p->n_trainable * sizeof *grad;
    float *got = malloc(bytes + 1);
    assert_non_null(got);
    device_zero(p->device, p->device_grad, bytes);
    tape_set_grad(build->tape, p->device_grad);
    tape_backward(build->tape);
    device_download(p->device, got, p->device_grad, bytes);
    ok(device_sync(p->device, "gradients"));
    for (int64_t i = 0; i < p->n_trainable; i++) grad[i] += got[i];
    free(got);
}

double tiny_run(tiny_t *t, tiny_how_t how, const batch_t *b, void *grad) {
    build_t build;
    const int64_t more = how.backend->on_device ? ROOM : 0, prefix = b->n_prefix ? more : 0;
    const build_options_t options = {
        .tail = TAIL_LOSS,
        .goal = how.plain || !t->method ? NULL : &t->goal,
        .with_grad = grad != NULL,
        .recompute = how.recompute,
        .shared = b->share ? virtual_shared(&t->layout) : 0,
        .shared_first = t->layout.prefix_rows,
        .capacity = {b->n_tokens + more, b->n_loss + more, b->n_seqs + more, b->n_prefix + prefix}};
    ok(build_open(&t->model, how.backend, t->hook, how.bare ? 0 : t->n_hook, options, &build));
    micro_load(&build, b);
    tape_set_step(build.tape, (op_step_t){9, how.step, grad != NULL});
    double loss;
    ok(micro_forward(&build, &loss));
    if (grad && more) {
        backward_on_device(&build, &t->model.params, grad);
    } else if (grad) {
        tape_set_grad(build.tape, grad);
        tape_backward(build.tape);
    }
    build_close(&build);
    return loss;
}

void *tiny_zeros(const tiny_t *t) {
    void *p = calloc((size_t)t->model.params.n_trainable + 1, dtype_size(t->model.params.real));
    assert_non_null(p);
    return p;
}

double tiny_at(const void *data, dtype_t real, int64_t i) {
    return real == DT_F64 ? ((const double *)data)[i] : (double)((const float *)data)[i];
}

double tiny_distance(const void *x, const void *y, dtype_t real, int64_t n) {
    double error = 0, size = 0;
    for (int64_t i = 0; i < n; i++) {
        double a = tiny_at(x, real, i), b = tiny_at(y, real, i);
        error += (a - b) * (a - b);
        size += b * b;
    }
    return size > 0 ? sqrt(error / size) : sqrt(error);
}
