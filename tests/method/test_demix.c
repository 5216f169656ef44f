/* What DEMix promises beyond the contract of all methods: an expert has the gradient that a dense model has on the
 * sequences of its domain, the experts of other domains do not matter to a sequence, and an export takes one of them.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"

static const char method[] = "{type: demix, domains: {field: domain, values: [law, news, code]}}";
static const char *const families_tested[] = {tiny_llama, tiny_gpt2};
static const int32_t lengths[] = {9, 1, 14, 6, 11, 3, 8};
enum { DOMAINS = 3, SEQS = sizeof lengths / sizeof *lengths, FAMILIES = 2 };
static const tiny_how_t in_double = {.backend = &backend_ref_f64};

static const param_t *find(const tiny_t *t, const char *module, const char *name) {
    char full[256];
    snprintf(full, sizeof full, "%s.%s", module, name);
    int i = param_find(&t->model.params, full);
    assert_true(i >= 0);
    return &t->model.params.item[i];
}

/* The gradient of a dense model over the sequences of one domain. */
static double *dense_gradient(tiny_t *dense, int domain) {
    double *grad = tiny_zeros(dense);
    for (int s = domain; s < SEQS; s += DOMAINS) {
        batch_t one;
        tiny_batch(&one, dense, &lengths[s], 1, s);
        tiny_run(dense, in_double, &one, grad);
        batch_release(&one);
    }
    return grad;
}

static void compare(const tiny_t *experts, const double *got, const tiny_t *dense, const double *want, int domain) {
    int compared = 0;
    for (int64_t i = 0; i < experts->model.n_site; i++) {
        const site_t *s = &experts->model.site[i];
        const char *names[][2] = {{"experts.weight", "weight"}, {"experts.bias", "bias"}};
        for (int k = 0; s->feed_forward && k < (s->bias < 0 ? 1 : 2); k++) {
            const param_t *a = find(experts, s->module, names[k][0]), *b = find(dense, s->module, names[k][1]);
            int64_t n = view_count(&b->value);
            double off = tiny_distance(got + a->offset + domain * n, want + b->offset, DT_F64, n);
            if (!(off <= 1e-12)) fail_msg("%s of domain %d: gradients differ by %g", a->name, domain, off);
            compared++;
        }
    }
    assert_true(compared >= 6);
}

static void test_gradient_is_dense(void **state) {
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        tiny_t experts, dense;
        batch_t b;
        tiny_open(&experts, families_tested[f], method, DT_F64);
        tiny_open(&dense, families_tested[f], NULL, DT_F64);
        tiny_batch(&b, &experts, lengths, SEQS, 0);
        double *got = tiny_zeros(&experts);
        tiny_run(&experts, in_double, &b, got);
        for (int d = 0; d < DOMAINS; d++) {
            double *want = dense_gradient(&dense, d);
            compare(&experts, got, &dense, want, d);
            free(want);
        }
        free(got);
        batch_release(&b);
        tiny_close(&experts);
        tiny_close(&dense);
    }
}

/* The loss of one sequence, whose label is its number modulo DOMAINS. */
static double loss_of(tiny_t *t, int number) {
    batch_t b;
    tiny_batch(&b, t, &lengths[number], 1, number);
    double loss = tiny_run(t, in_double, &b, NULL);
    batch_release(&b);
    return loss;
}

static void test_other_experts_do_not_matter(void **state) {
    (void)state;
    tiny_t t;
    double before[DOMAINS];
    tiny_open(&t, tiny_gpt2, method, DT_F64);
    const int number[DOMAINS] = {0, 4, 2};
    for (int d = 0; d < DOMAINS; d++) before[d] = loss_of(&t, number[d]);
    for (int i = 0; i < t.model.params.count; i++) {
        const param_t *p = &t.model.params.item[i];
        int64_t n = view_count(&p->value) / DOMAINS;
        for (int64_t k = n; p->trainable && k < 2 * n; k++) ((double *)p->value.data)[k] += 0.5;
    }
    for (int d = 0; d < DOMAINS; d++) {
        double after = loss_of(&t, number[d]);
        assert_int_equal(memcmp(&after, &before[d], sizeof after) != 0, d == 1);
    }
    tiny_close(&t);
}

static void test_settles_on_one_domain(void **state) {
    (void)state;
    for (int f = 0; f < FAMILIES; f++) {
        tiny_t t;
        tiny_open(&t, families_tested[f], method, DT_F64);
        tiny_randomize(&t);
        int32_t label[VIRTUAL_MAX_FIELDS] = {-1};
        const method_choice_t choice = {.layout = &t.layout, .label = label};
        assert_int_equal(t.method->settle(t.self, &t.model, &choice), ST_USAGE);
        assert_non_null(strstr(st_message(), "--condition domain=..., one of: law, news, code"));
        st_clear();
        label[0] = 2;
        batch_t b;
        tiny_batch(&b, &t, &lengths[2], 1, 2); /* of the domain 2 */
        double mixed = tiny_run(&t, in_double, &b, NULL);
        assert_int_equal(t.method->settle(t.self, &t.model, &choice), ST_OK);
        double settled = tiny_run(&t, (tiny_how_t){.backend = &backend_ref_f64, .bare = true}, &b, NULL);
        assert_true(mixed == settled);
        batch_release(&b);
        tiny_close(&t);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_gradient_is_dense),
                                       cmocka_unit_test(test_other_experts_do_not_matter),
                                       cmocka_unit_test(test_settles_on_one_domain)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
