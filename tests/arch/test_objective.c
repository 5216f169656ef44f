/* Objectives on a tiny model: loss and gradient against what the definitions give for the model's logits, worked out in
 * double by hand; packed against one by one; recomputation; and what evaluation sees of them. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"
#include "train/run/micro.h"

#define LORA "{type: lora, r: 3, lora_alpha: 5, target_modules: all-linear}"
enum { SEQS = 6, VALUE_TOKEN = 3, OTHER_TOKEN = 8 };
static const int32_t lengths[SEQS] = {7, 1, 9, 12, 5, 8};

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

/* What the definitions need of one loss row. The value head is the embedding of VALUE_TOKEN, so v . h is a logit. */
typedef struct row {
    double weight, score, log_p, log_rest, value_score; /* log p_t, log(1 - p_t), v . h */
} row_t;

/* The logits of the loss rows, from a tape that knows no objective. */
static double *logits_of(tiny_t *t, const batch_t *b) {
    build_t build;
    int64_t n = b->n_loss * t->model.config.vocab;
    const build_options_t o = {.tail = TAIL_LOGITS, .capacity = {b->n_tokens, b->n_loss, b->n_seqs, b->n_prefix}};
    ok(build_open(&t->model, &backend_ref_f64, t->hook, 1, o, &build));
    micro_load(&build, b);
    tape_forward(build.tape);
    double *z = malloc((size_t)n * sizeof *z);
    assert_non_null(z);
    memcpy(z, tape_data(build.tape, build.logits), (size_t)n * sizeof *z);
    build_close(&build);
    return z;
}

/* `turn`: the value head moves by that much of OTHER_TOKEN's embedding. */
static row_t row_of(const batch_t *b, int64_t m, const double *z, int64_t vocab, double turn) {
    double all = 0, rest = 0;
    for (int64_t v = 0; v < vocab; v++) {
        all += exp(z[v]);
        if (v != b->targets[m]) rest += exp(z[v]);
    }
    return (row_t){(double)b->loss_weight[m], b->score[m], z[b->targets[m]] - log(all), log(rest) - log(all),
                   z[VALUE_TOKEN] + turn * z[OTHER_TOKEN]};
}

static double value_of(const row_t *r) {
    return -1 / (1 + exp(-r->value_score));
}

static double cut(double omega) {
    return omega < 1000 ? omega : 1000;
}

/* The loss of a row; `at` is the row where nothing has moved, for what has no gradient. */
typedef double (*loss_fn)(const row_t *r, const row_t *at);

static double loss_mle(const row_t *r, const row_t *at) {
    (void)at;
    return -r->log_p;
}
static double loss_unlikelihood(const row_t *r, const row_t *at) {
    (void)at;
    return r->score <= 0.25 ? -r->log_p : -0.75 * r->log_rest;
}
static double loss_unlikelihood_zero(const row_t *r, const row_t *at) {
    (void)at;
    return r->score <= 0 ? -r->log_p : -r->log_rest;
}
static double loss_reward(const row_t *r, const row_t *at) {
    (void)at;
    return cut(exp(-r->score / 0.5)) * -r->log_p;
}
static double loss_advantage(const row_t *r, const row_t *at) {
    double omega = cut(exp((-at->score - value_of(at)) / 0.5)), off = -r->score - value_of(r);
    return 0.25 * omega * -r->log_p + 0.75 * off * off;
}
static double loss_advantage_cut(const row_t *r, const row_t *at) {
    double omega = cut(exp((-at->score - value_of(at)) / 0.02)), off = -r->score - value_of(r);
    return 0.5 * omega * -r->log_p + 0.5 * off * off;
}

typedef struct objective_case {
    const char *method;
    loss_fn loss;
    bool head; /* has a value head */
} objective_case_t;

static const objective_case_t cases[] = {
    {LORA "\nobjective: {type: mle}", loss_mle, false},
    {LORA "\nobjective: {type: unlikelihood, threshold: 0.25, alpha: 0.75}", loss_unlikelihood, false},
    {LORA "\nobjective: {type: unlikelihood, threshold: 0}", loss_unlikelihood_zero, false},
    {LORA "\nobjective: {type: reward_weighted, beta: 0.5}", loss_reward, false},
    {LORA "\nobjective: {type: advantage_weighted, alpha: 0.25, beta: 0.5}", loss_advantage, true},
    {LORA "\nobjective: {type: advantage_weighted, alpha: 0.5, beta: 0.02}", loss_advantage_cut, true},
};
enum { CASES = sizeof cases / sizeof *cases };

static param_t *head_of(tiny_t *t) {
    int i = param_find(&t->model.params, "objective.value_head.weight");
    return i < 0 ? NULL : &t->model.params.item[i];
}

static void open(tiny_t *t, const objective_case_t *c, const char *model, dtype_t real) {
    tiny_open(t, model, c->method, real);
    tiny_randomize(t);
    param_t *head = head_of(t);
    assert_int_equal(head != NULL, c->head);
    if (!head) return;
    const view_t *embed = &t->model.params.item[t->model.embed].value;
    size_t bytes = view_bytes(&head->value);
    memcpy(head->value.data, (const char *)embed->data + VALUE_TOKEN * bytes, bytes);
}

/* z0 are the logits where nothing has moved. */
static double by_hand(const objective_case_t *c, const tiny_t *t, const batch_t *b, const double *z, const double *z0,
                      double turn) {
    int64_t vocab = t->model.config.vocab;
    double sum = 0;
    for (int64_t m = 0; m < b->n_loss; m++) {
        row_t r = row_of(b, m, z + m * vocab, vocab, turn), at = row_of(b, m, z0 + m * vocab, vocab, 0);
        sum += r.weight * c->loss(&r, &at);
    }
    return sum;
}

static double hand_slope(const objective_case_t *c, tiny_t *t, const batch_t *b, const double *z0, double *place) {
    const double step = 1e-5, kept = *place;
    double side[2];
    for (int s = 0; s < 2; s++) {
        *place = kept + (s ? -step : step);
        double *z = logits_of(t, b);
        side[s] = by_hand(c, t, b, z, z0, 0);
        free(z);
    }
    *place = kept;
    return (side[0] - side[1]) / (2 * step);
}

static void near(const char *what, const objective_case_t *c, double got, double want, double limit) {
    if (!(fabs(got - want) <= limit * (1 + fabs(want))))
        fail_msg("%s: %s is %.12g, by hand %.12g", c->method, what, got, want);
}

static void check_head(const objective_case_t *c, tiny_t *t, const batch_t *b, const double *grad, const double *z0) {
    const param_t *head = head_of(t);
    const double step = 1e-5, *embed = t->model.params.item[t->model.embed].value.data;
    double along = 0;
    for (int64_t i = 0; i < t->model.config.hidden; i++)
        along += grad[head->offset + i] * embed[OTHER_TOKEN * t->model.config.hidden + i];
    double slope = (by_hand(c, t, b, z0, z0, step) - by_hand(c, t, b, z0, z0, -step)) / (2 * step);
    assert_true(fabs(slope) > 1e-3);
    near("the value head's gradient", c, along, slope, 1e-7); /* V is kept as float32 */
}

/* Loss to the last digits; gradients at a few places of every trained matrix. */
static void test_by_hand(void **state) {
    (void)state;
    for (int i = 0; i < 2 * CASES; i++) {
        const objective_case_t *c = &cases[i / 2];
        tiny_t t;
        batch_t b;
        open(&t, c, i % 2 ? tiny_gpt2 : tiny_llama, DT_F64);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        double *grad = tiny_zeros(&t), *z0 = logits_of(&t, &b), *x = t.model.params.trainable;
        double loss = tiny_run(&t, (tiny_how_t){.backend = &backend_ref_f64}, &b, grad);
        /* weights are handed on as float32; gradients are sums of terms of both signs with weights up to 500 */
        near("the loss", c, loss, by_hand(c, &t, &b, z0, z0, 0), 1e-7);
        for (int64_t k = 0; k < t.model.params.count; k++) {
            const param_t *p = &t.model.params.item[k];
            if (!p->trainable || p == head_of(&t)) continue;
            for (int64_t at = p->offset; at < p->offset + view_count(&p->value); at += view_count(&p->value) / 2)
                near(p->name, c, grad[at], hand_slope(c, &t, &b, z0, &x[at]), 2e-6);
        }
        if (c->head) check_head(c, &t, &b, grad, z0);
        free(grad);
        free(z0);
        batch_release(&b);
        tiny_close(&t);
    }
}

/* Sequences know nothing of each other, whatever their scores. */
static void test_packed_is_sum_of_sequences(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        tiny_t t;
        batch_t b;
        const tiny_how_t how = {.backend = &backend_ref_f64};
        open(&t, &cases[i], tiny_llama, DT_F64);
        double *packed = tiny_zeros(&t), *sum = tiny_zeros(&t), loss = 0;
        tiny_batch(&b, &t, lengths, SEQS, 0);
        double whole = tiny_run(&t, how, &b, packed);
        batch_release(&b);
        for (int s = 0; s < SEQS; s++) {
            tiny_batch(&b, &t, &lengths[s], 1, s);
            loss += tiny_run(&t, how, &b, sum);
            batch_release(&b);
        }
        assert_true(fabs(whole - loss) <= 1e-9 * fabs(whole));
        assert_true(tiny_distance(packed, sum, DT_F64, t.model.params.n_trainable) <= 1e-9);
        free(packed);
        free(sum);
        tiny_close(&t);
    }
}

/* The processor's kernels agree with the reference, and recomputation with itself, bit for bit. */
static void test_cpu(void **state) {
    (void)state;
    for (int i = 0; i < CASES; i++) {
        tiny_t t, exact;
        batch_t b;
        open(&t, &cases[i], tiny_llama, DT_F32);
        open(&exact, &cases[i], tiny_llama, DT_F64);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        int64_t n = t.model.params.n_trainable;
        float *grad = tiny_zeros(&t), *again = tiny_zeros(&t);
        double *want = tiny_zeros(&exact), *got = tiny_zeros(&exact);
        double loss = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu}, &b, grad);
        double other = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu, .recompute = true}, &b, again);
        double right = tiny_run(&exact, (tiny_how_t){.backend = &backend_ref_f64}, &b, want);
        assert_memory_equal(&loss, &other, sizeof loss);
        assert_memory_equal(grad, again, (size_t)n * sizeof *grad);
        for (int64_t k = 0; k < n; k++) got[k] = (double)grad[k];
        near("the loss on the processor", &cases[i], loss, right, 1e-5);
        double d = tiny_distance(got, want, DT_F64, n);
        if (!(d <= 2e-5)) fail_msg("%s: the gradient on the processor is off by %g", cases[i].method, d);
        free(grad);
        free(again);
        free(want);
        free(got);
        batch_release(&b);
        tiny_close(&t);
        tiny_close(&exact);
    }
}

/* Without the objective a tape gives the likelihood: what evaluation builds. */
static void test_plain(void **state) {
    (void)state;
    double want = 0;
    for (int i = 0; i < CASES; i++) {
        tiny_t t;
        batch_t b;
        open(&t, &cases[i], tiny_llama, DT_F32);
        tiny_batch(&b, &t, lengths, SEQS, 0);
        double loss = tiny_run(&t, (tiny_how_t){.backend = &backend_cpu, .bare = true, .plain = true}, &b, NULL);
        if (i == 0) want = loss;
        assert_true(want > 1);
        assert_memory_equal(&loss, &want, sizeof loss);
        batch_release(&b);
        tiny_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_by_hand),
        cmocka_unit_test(test_packed_is_sum_of_sequences),
        cmocka_unit_test(test_cpu),
        cmocka_unit_test(test_plain),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
