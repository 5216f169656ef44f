/* The section `objective`: defaults, what is refused, writing out, comparing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "train/config/config.h"
#include "train/objectives/objective.h"
#include "train/run/registry.h"

#define BASE "model: m\nmethod: {type: lora}\ndata: {train: a.jsonl}\noutput_dir: o\n" /* lines 1 to 4 */

static status_t parse(const char *text, const char *override, config_t *c) {
    memset(c, 0, sizeof *c);
    return config_parse("run.yaml", text, strlen(text), &override, override ? 1 : 0, registry_methods(), c);
}

static void must_parse(const char *text, config_t *c) {
    if (parse(text, NULL, c) != ST_OK) fail_msg("%s\n%s", text, st_message());
}

typedef struct bad {
    const char *text, *override, *message;
} bad_t;

static const bad_t bad[] = {
    {BASE "objective: mle\n", NULL, "run.yaml:5: 'objective' must be a mapping with a 'type', found a single value"},
    {BASE "objective: [mle]\n", NULL, "run.yaml:5: 'objective' must be a mapping with a 'type', found a list"},
    {BASE "objective: {}\n", NULL, "run.yaml:5: missing key 'type' in objective"},
    {BASE "objective: {type: [mle]}\n", NULL, "run.yaml:5: 'type' in objective must be the name of an objective"},
    {BASE "objective: {type: unlikelyhood}\n", NULL,
     "run.yaml:5: unknown objective 'unlikelyhood' (did you mean 'unlikelihood'?)"},
    {BASE "objective: {type: ppo}\n", NULL,
     "run.yaml:5: unknown objective 'ppo'; known: mle, unlikelihood, reward_weighted, advantage_weighted"},
    {BASE "objective:\n  type: mle\n  field: score\n", NULL, "run.yaml:7: unknown key 'field' in objective"},
    {BASE "objective: {type: unlikelihood}\n", NULL, "run.yaml:5: missing key 'threshold' in objective"},
    {BASE "objective: {type: unlikelihood, threshold: low}\n", NULL,
     "run.yaml:5: 'threshold' in objective must be a number, found 'low'"},
    {BASE "objective: {type: unlikelihood, threshold: 0, alpha: -1}\n", NULL,
     "run.yaml:5: 'alpha' in objective must be at least 0 and at most 1000000, found '-1'"},
    {BASE "objective: {type: unlikelihood, threshold: 0, beta: 1}\n", NULL,
     "run.yaml:5: unknown key 'beta' in objective"},
    {BASE "objective: {type: reward_weighted, beta: 0}\n", NULL,
     "run.yaml:5: 'beta' in objective must be above 0, found '0'"},
    {BASE "objective: {type: reward_weighted, alpha: 0.5}\n", NULL, "run.yaml:5: unknown key 'alpha' in objective"},
    {BASE "objective: {type: advantage_weighted, alpha: 1.5}\n", NULL,
     "run.yaml:5: 'alpha' in objective must be at least 0 and at most 1, found '1.5'"},
    {BASE "objective: {type: advantage_weighted, threshold: 0}\n", NULL,
     "run.yaml:5: unknown key 'threshold' in objective"},
    {BASE "objective: {type: advantage_weighted, field: [a]}\n", NULL,
     "run.yaml:5: 'field' in objective must be a text, found a list"},
    {BASE "threshold: 0\nobjective: {type: unlikelihood, threshold: 0}\n", NULL,
     "run.yaml:5: unknown key 'threshold' (did you mean 'objective.threshold'?)"},
    {BASE, "objective.beta=1", "command line: missing key 'type' in objective"},
    {BASE "objective: {type: reward_weighted}\n", "objective.beta=-2",
     "command line: 'beta' in objective must be above 0, found '-2'"},
};

static void test_bad(void **state) {
    (void)state;
    int failures = 0;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        config_t c;
        status_t st = parse(bad[i].text, bad[i].override, &c);
        if (st == ST_USAGE && !strcmp(st_message(), bad[i].message)) continue;
        print_error("%s\n  expected %s\n  got      %s\n", bad[i].text, bad[i].message, st == ST_OK ? "" : st_message());
        failures++;
        if (st == ST_OK) config_release(&c);
    }
    assert_int_equal(failures, 0);
}

static void check_round_trip(const config_t *c) {
    config_t again;
    strbuf_t text = {0}, changes = {0};
    assert_int_equal(config_dump(c, &text), ST_OK);
    must_parse(text.data, &again);
    assert_string_equal(again.objective.type, c->objective.type);
    assert_int_equal(config_diff(c, &again, &changes), ST_OK);
    assert_int_equal(changes.len, 0);
    strbuf_release(&text);
    strbuf_release(&changes);
    config_release(&again);
}

/* Every objective with as few keys as it takes. */
static void test_defaults(void **state) {
    (void)state;
    static const struct {
        const char *text, *type, *field;
    } rows[] = {
        {BASE, "mle", NULL},
        {BASE "objective: null\n", "mle", NULL},
        {BASE "objective: {type: mle}\n", "mle", NULL},
        {BASE "objective: {type: unlikelihood, threshold: 0}\n", "unlikelihood", "score"},
        {BASE "objective: {type: unlikelihood, threshold: -0.5, field: toxicity}\n", "unlikelihood", "toxicity"},
        {BASE "objective: {type: reward_weighted}\n", "reward_weighted", "score"},
        {BASE "objective: {type: advantage_weighted, field: pii}\n", "advantage_weighted", "pii"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        config_t c;
        must_parse(rows[i].text, &c);
        const char *field = objective_score_field(&c.objective);
        assert_string_equal(c.objective.type, rows[i].type);
        assert_int_equal(field != NULL, rows[i].field != NULL);
        if (field) assert_string_equal(field, rows[i].field);
        check_round_trip(&c);
        config_release(&c);
    }
}

static void check_diff(const char *before, const char *now, const char *want) {
    config_t a, b;
    strbuf_t changes = {0};
    must_parse(before, &a);
    must_parse(now, &b);
    assert_int_equal(config_diff(&a, &b, &changes), ST_OK);
    assert_string_equal(changes.len ? changes.data : "", want);
    strbuf_release(&changes);
    config_release(&a);
    config_release(&b);
}

/* A run is not continued with another objective. */
static void test_diff(void **state) {
    (void)state;
    check_diff(BASE, BASE "objective: {type: mle}\n", "");
    check_diff(BASE, BASE "objective: {type: reward_weighted}\n", "objective.type: mle -> reward_weighted\n");
    check_diff(BASE "objective: {type: reward_weighted}\n", BASE "objective: {type: reward_weighted, beta: 2}\n",
               "objective.beta: 1.0e+01 -> 2.0\n");
    check_diff(BASE "objective: {type: unlikelihood, threshold: 0}\n",
               BASE "objective: {type: unlikelihood, threshold: 0, field: pii}\n", "objective.field: score -> pii\n");
}

static float weight_of(const char *objective, double score, float weight) {
    config_t c;
    char text[256] = BASE "objective: ";
    strcat(text, objective);
    must_parse(text, &c);
    float out = objective_find(c.objective.type)->weigh(c.objective.cfg, score, weight);
    config_release(&c);
    return out;
}

/* A limit belongs to the good side, 0 is a limit, and a weight has a most. */
static void test_weights(void **state) {
    (void)state;
    const char *zero = "{type: unlikelihood, threshold: 0}\n",
               *some = "{type: unlikelihood, threshold: 5.6e-4, alpha: 2}\n";
    assert_true(weight_of(zero, 0, 0.5f) == 0.5f);
    assert_true(weight_of(zero, -1, 0.5f) == 0.5f);
    assert_true(weight_of(zero, 1e-300, 0.5f) == -0.5f);
    assert_true(weight_of(some, 5.6e-4, 0.5f) == 0.5f);
    assert_true(weight_of(some, 5.7e-4, 0.5f) == -1.0f);
    assert_true(weight_of("{type: unlikelihood, threshold: 0, alpha: 0}\n", 1, 0.5f) == 0);
    assert_true(weight_of("{type: reward_weighted, beta: 2}\n", 0, 0.5f) == 0.5f);
    assert_true(weight_of("{type: reward_weighted, beta: 2}\n", -1000, 0.5f) == 500);
    assert_true(weight_of("{type: reward_weighted, beta: 1e-300}\n", -1e300, 0.5f) == 500);
    assert_true(weight_of("{type: reward_weighted, beta: 1e-300}\n", 1e300, 0.5f) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
