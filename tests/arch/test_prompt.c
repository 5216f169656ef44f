/* Prompts against the oracle: loss and the gradient of every trained tensor, in every place, named or not, of a table
 * and of both encoders. The oracle knows rows alone; the encoders they come from are written out here, and their
 * gradients are differences of <dZ, Z> with the oracle's dZ, element by element. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/arch/oracle_side.h"

enum { SEQS = 6 };
static const int32_t lengths[SEQS] = {7, 1, 0, 12, 5, 9};
static const oracle_case_t cases[] = {
    {tiny_llama, .tied = true, .rope = {ORACLE_ROPE_DEFAULT, 10000, 0, 0, 0, 0}},
    {tiny_gpt2, .gpt2 = true, .tied = true},
};
#define NAMED "prompts: {field: task, values: [a, b, c]}}"
#define LSTM  "encoder_reparameterization_type: LSTM, encoder_hidden_size: "
static const char *const methods_tested[] = {
    "{type: prompt_tuning, num_virtual_tokens: 3}",
    "{type: prompt_tuning, num_virtual_tokens: 3, position: after_bos}",
    "{type: prompt_tuning, num_virtual_tokens: 3, position: after_prompt}",
    "{type: prompt_tuning, num_virtual_tokens: 2, " NAMED,
    "{type: p_tuning, num_virtual_tokens: 3, encoder_hidden_size: 7}",
    "{type: p_tuning, num_virtual_tokens: 2, encoder_hidden_size: 5, position: after_prompt, " NAMED,
    "{type: p_tuning, num_virtual_tokens: 4, " LSTM "3}",
    "{type: p_tuning, num_virtual_tokens: 2, position: after_bos, encoder_num_layers: 1, " LSTM "5}",
};
enum { METHODS = sizeof methods_tested / sizeof *methods_tested };
#define ENCODER "prompt_encoder.default."

static double *zeros(int64_t n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static const oracle_tensor_t *find(const oracle_side_t *o, const char *name) {
    for (int64_t i = 0; i < o->n; i++)
        if (!strcmp(o->tensor[i].name, name)) return &o->tensor[i];
    return NULL;
}

/* y[n,out] = x[n,in] W^T + b */
static void affine(const double *x, const double *w, const double *b, int64_t n, int64_t in, int64_t out, double *y) {
    for (int64_t r = 0; r < n; r++)
        for (int64_t k = 0; k < out; k++) {
            double sum = b[k];
            for (int64_t i = 0; i < in; i++) sum += w[k * in + i] * x[r * in + i];
            y[r * out + k] = sum;
        }
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* One direction of a layer into its half of y [n, 2 H]. False: there is no such layer. */
static bool lstm(const oracle_side_t *o, int layer, bool back, const double *x, int64_t n, int64_t in, double *y) {
    static const char *const part[] = {"weight_ih", "weight_hh", "bias_ih", "bias_hh"};
    const oracle_tensor_t *w[4];
    for (int i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, ENCODER "lstm_head.%s_l%d%s", part[i], layer, back ? "_reverse" : "");
        w[i] = find(o, name);
        if (!w[i]) return false;
    }
    int64_t h = w[2]->count / 4;
    double *gate = zeros(4 * h), *from = zeros(4 * h), *last = zeros(h), *cell = zeros(h);
    for (int64_t s = 0; s < n; s++) {
        int64_t t = back ? n - 1 - s : s;
        affine(x + t * in, w[0]->value, w[2]->value, 1, in, 4 * h, gate);
        affine(last, w[1]->value, w[3]->value, 1, h, 4 * h, from);
        for (int64_t k = 0; k < h; k++) {
            double v[4];
            for (int g = 0; g < 4; g++) v[g] = gate[g * h + k] + from[g * h + k];
            cell[k] = sigmoid(v[1]) * cell[k] + sigmoid(v[0]) * tanh(v[2]);
            y[t * 2 * h + (back ? h : 0) + k] = sigmoid(v[3]) * tanh(cell[k]);
        }
        for (int64_t k = 0; k < h; k++) last[k] = y[t * 2 * h + (back ? h : 0) + k];
    }
    free(gate);
    free(from);
    free(last);
    free(cell);
    return true;
}

/* The rows Z [n, D] that an encoder makes; the caller frees. */
static double *encode(const oracle_side_t *o, int64_t d, int64_t *count) {
    const oracle_tensor_t *e = find(o, ENCODER "embedding.weight"), *bias = find(o, ENCODER "lstm_head.bias_ih_l0");
    assert_non_null(e);
    int64_t n = e->count / d, width = d;
    double *x = zeros(e->count);
    memcpy(x, e->value, (size_t)e->count * sizeof *x);
    for (int layer = 0; bias; layer++) {
        double *y = zeros(n * (bias->count / 2));
        bool there = lstm(o, layer, false, x, n, width, y) && lstm(o, layer, true, x, n, width, y);
        free(there ? x : y);
        if (!there) break;
        x = y;
        width = bias->count / 2;
    }
    for (int i = 0;; i += 2) {
        char name[2][64];
        snprintf(name[0], sizeof name[0], ENCODER "mlp_head.%d.weight", i);
        snprintf(name[1], sizeof name[1], ENCODER "mlp_head.%d.bias", i);
        const oracle_tensor_t *w = find(o, name[0]), *b = find(o, name[1]);
        if (!w) break;
        if (i)
            for (int64_t k = 0; k < n * width; k++) x[k] = x[k] > 0 ? x[k] : 0;
        double *y = zeros(n * b->count);
        affine(x, w->value, b->value, n, width, b->count, y);
        free(x);
        x = y;
        width = b->count;
    }
    assert_int_equal(width, d);
    *count = n * d;
    return x;
}

static double inner(const oracle_side_t *o, int64_t d, const double *dz) {
    int64_t n;
    double *z = encode(o, d, &n), sum = 0;
    for (int64_t i = 0; i < n; i++) sum += z[i] * dz[i];
    free(z);
    return sum;
}

/* Gradients of the encoder's tensors. Near a kink of ReLU no element comes by luck of the values. */
static void encoder_gradients(oracle_side_t *o, int64_t d, const double *dz) {
    const double step = 1e-5;
    for (int64_t i = 0; i < o->n; i++) {
        const oracle_tensor_t *t = &o->tensor[i];
        if (strncmp(t->name, ENCODER, strlen(ENCODER))) continue;
        double *x = (double *)(uintptr_t)t->value;
        for (int64_t k = 0; k < t->count; k++) {
            double kept = x[k];
            x[k] = kept + step;
            double above = inner(o, d, dz);
            x[k] = kept - step;
            t->grad[k] = (above - inner(o, d, dz)) / (2 * step);
            x[k] = kept;
        }
    }
}

/* The loss, and every gradient into o->grad. */
static double oracle_loss(const oracle_case_t *c, const tiny_t *tiny, const batch_t *b, oracle_side_t *o) {
    const model_config_t *mc = &tiny->model.config;
    oracle_side_open(o, tiny, 0, 1);
    for (int64_t i = 0; i < o->n; i++)
        if (!strcmp(o->tensor[i].name, "prompt_embeddings")) {
            o->tensor[i].name = "slot.rows";
            return oracle_side_run(o, c, mc, b);
        }
    int64_t n;
    double *z = encode(o, mc->hidden, &n), *dz = zeros(n);
    assert_int_equal(n, tiny->layout.slot_rows * mc->hidden);
    o->tensor[o->n++] = (oracle_tensor_t){"slot.rows", n, z, dz, 0};
    double loss = oracle_side_run(o, c, mc, b);
    encoder_gradients(o, mc->hidden, dz);
    free(dz);
    return loss;
}

static void compare_gradient(const char *method, const backend_t *backend, const param_t *p, const void *grad,
                             const double *want, double limit) {
    const char *own = (const char *)grad + (size_t)p->offset * dtype_size(backend->real);
    double size = 0, error = 0;
    for (int64_t k = 0; k < view_count(&p->value); k++) {
        double d = tiny_at(own, backend->real, k) - want[k];
        size += want[k] * want[k];
        error += d * d;
    }
    if (!(size > 0 && error <= limit * limit * size))
        fail_msg("%s on %s: gradient of %s is off by %g of %g", method, backend->name, p->name, sqrt(error),
                 sqrt(size));
}

static void compare(const oracle_case_t *c, const char *method, const backend_t *backend, bool recompute,
                    double loss_limit, double limit) {
    tiny_t t;
    batch_t b;
    oracle_side_t o;
    tiny_open(&t, c->config, method, backend->real);
    tiny_randomize(&t);
    tiny_batch(&b, &t, lengths, SEQS, 0);
    double want = oracle_loss(c, &t, &b, &o);
    void *grad = tiny_zeros(&t);
    double loss = tiny_run(&t, (tiny_how_t){.backend = backend, .recompute = recompute}, &b, grad);
    assert_true(want > 1);
    if (!(fabs(loss - want) <= loss_limit * want))
        fail_msg("%s on %s: loss %.17g, oracle %.17g", method, backend->name, loss, want);
    for (int64_t i = 0; i < t.model.params.count; i++) {
        const param_t *p = &t.model.params.item[i];
        if (p->trainable) compare_gradient(method, backend, p, grad, o.grad + p->offset, limit);
    }
    free(grad);
    oracle_side_close(&o);
    batch_release(&b);
    tiny_close(&t);
}

/* Differences of an encoder are good to 1e-8; a table has the oracle's own gradient. */
static double double_limit(const char *method) {
    return strstr(method, "p_tuning") ? 1e-7 : 1e-9;
}

static void test_double(void **state) {
    (void)state;
    for (int i = 0; i < 2 * METHODS; i++) {
        const char *method = methods_tested[i / 2];
        compare(&cases[i % 2], method, &backend_ref_f64, i / 2 % 2, 1e-12, double_limit(method));
    }
}

static void test_float(void **state) {
    (void)state;
    for (int i = 0; i < METHODS; i++) compare(&cases[i % 2], methods_tested[i], &backend_ref_f32, false, 1e-5, 1e-5);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < METHODS; i++) {
        compare(&cases[0], methods_tested[i], &backend_cpu, i % 2, 1e-5, 1e-5);
        compare(&cases[1], methods_tested[i], &backend_cpu, !(i % 2), 1e-5, 1e-5);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
