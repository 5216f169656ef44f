/* Prefixes against the oracle: loss and the gradient of every trained tensor, direct and projected, chosen by labels
 * and without them. The oracle knows keys and values alone; the table they come from is written out here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/arch/oracle_side.h"

enum { SEQS = 6, MAX_HALVES = 8 };
static const int32_t lengths[SEQS] = {7, 1, 2, 12, 5, 9};
static const oracle_case_t cases[] = {
    {tiny_llama, .tied = true, .rope = {ORACLE_ROPE_DEFAULT, 10000, 0, 0, 0, 0}},
    {tiny_gpt2, .gpt2 = true, .tied = true},
};
#define CONTROL                                                                                                        \
    "{type: control_prefix, num_virtual_tokens: 2, attributes: [{field: task, values: [a, b], num_virtual_tokens: 3}," \
    "{field: style, values: [x, y, z], num_virtual_tokens: 1}]"
static const char *const methods_tested[] = {
    "{type: prefix_tuning, num_virtual_tokens: 3}",
    "{type: prefix_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c, d]}}",
    "{type: prefix_tuning, num_virtual_tokens: 4, prefix_projection: true, encoder_hidden_size: 5}",
    CONTROL "}",
    CONTROL ", prefix_projection: true}",
};
enum { METHODS = sizeof methods_tested / sizeof *methods_tested };

/* y[n,out] = x[n,in] W^T + b */
static void affine(const double *x, const double *w, const double *b, int64_t n, int64_t in, int64_t out, double *y) {
    for (int64_t r = 0; r < n; r++)
        for (int64_t o = 0; o < out; o++) {
            double sum = b[o];
            for (int64_t i = 0; i < in; i++) sum += w[o * in + i] * x[r * in + i];
            y[r * out + o] = sum;
        }
}

static void affine_backward(const double *x, const double *w, const double *dy, int64_t n, int64_t in, int64_t out,
                            double *dw, double *db, double *dx) {
    for (int64_t r = 0; r < n; r++)
        for (int64_t o = 0; o < out; o++) {
            double d = dy[r * out + o];
            db[o] += d;
            for (int64_t i = 0; i < in; i++) {
                dw[o * in + i] += d * x[r * in + i];
                dx[r * in + i] += d * w[o * in + i];
            }
        }
}

/* The table of a method in double. */
typedef struct table {
    int64_t rows, known, width, in, hidden; /* rows with those for missing labels; hidden 0: direct */
    double *e, *h, *t, *dt;
    const double *w1, *b1, *w2, *b2; /* of the oracle side */
    double *dw1, *db1, *dw2, *db2, *de;
} table_t;

static double *zeros(int64_t n) {
    double *p = calloc((size_t)n + 1, sizeof *p);
    assert_non_null(p);
    return p;
}

static const oracle_tensor_t *find(const oracle_side_t *o, const char *end) {
    for (int64_t i = 0; i < o->n; i++) {
        size_t n = strlen(o->tensor[i].name), m = strlen(end);
        if (n >= m && !strcmp(o->tensor[i].name + n - m, end)) return &o->tensor[i];
    }
    return NULL;
}

static void table_open(table_t *t, const oracle_side_t *o, const tiny_t *tiny) {
    const model_config_t *c = &tiny->model.config;
    const oracle_tensor_t *direct = find(o, "prompt_embeddings"), *e = find(o, "embedding.weight");
    *t = (table_t){.width = 2 * c->layers * c->kv_heads * c->head_dim, .in = c->kv_heads * c->head_dim};
    t->rows = tiny->layout.prefix_rows;
    t->t = zeros(t->rows * t->width);
    t->dt = zeros(t->rows * t->width);
    if (direct) {
        t->known = direct->count / t->width;
        memcpy(t->t, direct->value, (size_t)direct->count * sizeof *t->t);
        t->de = direct->grad;
        return;
    }
    assert_non_null(e);
    const oracle_tensor_t *w1 = find(o, "transform.0.weight"), *b1 = find(o, "transform.0.bias");
    const oracle_tensor_t *w2 = find(o, "transform.2.weight"), *b2 = find(o, "transform.2.bias");
    t->w1 = w1->value, t->b1 = b1->value, t->w2 = w2->value, t->b2 = b2->value;
    t->dw1 = w1->grad, t->db1 = b1->grad, t->dw2 = w2->grad, t->db2 = b2->grad, t->de = e->grad;
    t->hidden = b1->count;
    t->known = e->count / t->in;
    t->e = zeros(t->rows * t->in);
    t->h = zeros(t->rows * t->hidden);
    memcpy(t->e, e->value, (size_t)e->count * sizeof *t->e);
    affine(t->e, t->w1, t->b1, t->rows, t->in, t->hidden, t->h);
    for (int64_t i = 0; i < t->rows * t->hidden; i++) t->h[i] = tanh(t->h[i]);
    affine(t->h, t->w2, t->b2, t->rows, t->hidden, t->width, t->t);
}

static void table_backward(table_t *t) {
    if (!t->hidden) {
        for (int64_t i = 0; i < t->known * t->width; i++) t->de[i] += t->dt[i];
        return;
    }
    double *dh = zeros(t->rows * t->hidden), *de = zeros(t->rows * t->in);
    affine_backward(t->h, t->w2, t->dt, t->rows, t->hidden, t->width, t->dw2, t->db2, dh);
    for (int64_t i = 0; i < t->rows * t->hidden; i++) dh[i] *= 1 - t->h[i] * t->h[i];
    affine_backward(t->e, t->w1, dh, t->rows, t->in, t->hidden, t->dw1, t->db1, de);
    for (int64_t i = 0; i < t->known * t->in; i++) t->de[i] += de[i];
    free(dh);
    free(de);
}

static void table_close(table_t *t) {
    free(t->e);
    free(t->h);
    free(t->t);
    free(t->dt);
}

/* One tensor for every half: the columns of the rows that the batch names. */
static void append_prefix(oracle_side_t *o, const table_t *t, const batch_t *b, char name[MAX_HALVES][32]) {
    for (int64_t half = 0; half < t->width / t->in; half++) {
        double *value = zeros(b->n_prefix * t->in);
        for (int64_t r = 0; r < b->n_prefix; r++)
            memcpy(value + r * t->in, t->t + b->prefix[r] * t->width + half * t->in, (size_t)t->in * sizeof *value);
        snprintf(name[half], sizeof name[half], "prefix.%d.%s", (int)half / 2, half % 2 ? "value" : "key");
        assert_true(o->n < o->cap && half < MAX_HALVES);
        o->tensor[o->n++] = (oracle_tensor_t){name[half], b->n_prefix * t->in, value, zeros(b->n_prefix * t->in), 0};
    }
}

static void collect_prefix(oracle_side_t *o, table_t *t, const batch_t *b) {
    for (int64_t half = 0; half < t->width / t->in; half++) {
        double *grad = o->tensor[o->n - t->width / t->in + half].grad;
        for (int64_t r = 0; r < b->n_prefix; r++)
            for (int64_t i = 0; i < t->in; i++)
                t->dt[b->prefix[r] * t->width + half * t->in + i] += grad[r * t->in + i];
        free(grad);
    }
}

static double oracle_loss(const oracle_case_t *c, const tiny_t *tiny, const batch_t *b, oracle_side_t *o) {
    char name[MAX_HALVES][32];
    table_t t;
    oracle_side_open(o, tiny, 0, MAX_HALVES);
    table_open(&t, o, tiny);
    append_prefix(o, &t, b, name);
    double loss = oracle_side_run(o, c, &tiny->model.config, b);
    collect_prefix(o, &t, b);
    table_backward(&t);
    table_close(&t);
    return loss;
}

static void compare(const oracle_case_t *c, const char *method, const backend_t *backend, bool recompute,
                    double limit) {
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
    if (!(fabs(loss - want) <= limit * want))
        fail_msg("%s on %s: loss %.17g, oracle %.17g", method, backend->name, loss, want);
    for (int64_t i = 0; i < t.model.params.count; i++) {
        const param_t *p = &t.model.params.item[i];
        if (!p->trainable) continue;
        const char *own = (const char *)grad + (size_t)p->offset * dtype_size(backend->real);
        double size = 0, error = 0;
        for (int64_t k = 0; k < view_count(&p->value); k++) {
            double y = o.grad[p->offset + k], d = tiny_at(own, backend->real, k) - y;
            size += y * y;
            error += d * d;
        }
        if (!(size > 0 && error <= limit * limit * size))
            fail_msg("%s on %s: gradient of %s is off by %g of %g", method, backend->name, p->name, sqrt(error),
                     sqrt(size));
    }
    free(grad);
    oracle_side_close(&o);
    batch_release(&b);
    tiny_close(&t);
}

static void test_double(void **state) {
    (void)state;
    for (int i = 0; i < 4 * METHODS; i++)
        compare(&cases[i % 2], methods_tested[i / 4], &backend_ref_f64, i / 2 % 2, 1e-9);
}

static void test_float(void **state) {
    (void)state;
    for (int i = 0; i < 2 * METHODS; i++) compare(&cases[i % 2], methods_tested[i / 2], &backend_ref_f32, false, 1e-5);
}

static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < 4 * METHODS; i++) compare(&cases[i % 2], methods_tested[i / 4], &backend_cpu, i / 2 % 2, 1e-5);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_double),
        cmocka_unit_test(test_float),
        cmocka_unit_test(test_cpu),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
