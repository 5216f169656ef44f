/* Several methods in one run, and several runs on one base: reading, refusing, writing out and comparing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>
#include "common_lora_fields.h"
#include "train/config/config.h"

#define MODEL  "model: m\n"
#define DATA   "data: {train: a.jsonl}\n"
#define OUT    "output_dir: o\n"
#define LORA   "  - {type: lora, r: 4}\n"
#define PREFIX "  - {type: prefix, rows: 3, learning_rate: 1e-2}\n"
#define EACH   MODEL DATA OUT "adapters:\n  field: task\n  each:\n" /* lines 1 to 6 */
#define SST    "    - {name: sst, method: {type: lora, r: 4}}\n"
#define RTE    "    - {name: rte, method: [{type: prefix}, {type: lora}], training: {learning_rate: 1e-2}}\n"

typedef struct prefix {
    int64_t rows;
} prefix_t;

static const cfg_field_t prefix_fields[] = {
    {.name = "rows", .type = CFG_INT, .offset = offsetof(prefix_t, rows), .standard = "10", .min = 1, .max = 100}, {0}};
static const method_fields_t prefix = {"prefix", prefix_fields, sizeof(prefix_t)};

static const method_fields_t *find(const char *type) {
    return strcmp(type, "prefix") ? sample_methods.find(type) : &prefix;
}

static const char *type(int i) {
    static const char *const all[] = {"lora", "prefix", NULL};
    return all[i];
}

static const config_methods_t two_methods = {.find = find, .type = type};

typedef struct bad {
    const char *text, *override, *message;
} bad_t;

static const bad_t bad_lists[] = {
    {MODEL DATA OUT "method: []\n", NULL, "run.yaml:4: 'method' must not be an empty list; give at least one method"},
    {MODEL DATA OUT "method:\n" LORA LORA, NULL,
     "run.yaml:6: 'method' has two entries of the type 'lora'; give each type once, because their tensors have the "
     "same names"},
    {MODEL DATA OUT "method:\n" LORA "  - prefix\n", NULL,
     "run.yaml:6: an entry of 'method' must be a mapping with a 'type', found a single value"},
    {MODEL DATA OUT "method:\n" LORA "  - [prefix]\n", NULL,
     "run.yaml:6: an entry of 'method' must be a mapping with a 'type', found a list"},
    {MODEL DATA OUT "method:\n" LORA "  - {rows: 3}\n", NULL, "run.yaml:6: missing key 'type' in method"},
    {MODEL DATA OUT "method:\n" LORA "  - {type: prefixx}\n", NULL,
     "run.yaml:6: unknown method 'prefixx' (did you mean 'prefix'?)"},
    {MODEL DATA OUT "method:\n" LORA "  - {type: zzz}\n", NULL,
     "run.yaml:6: unknown method 'zzz'; known: lora, prefix"},
    {MODEL DATA OUT "method:\n" LORA "  - type: prefix\n    r: 3\n", NULL, "run.yaml:7: unknown key 'r' in method"},
    {MODEL DATA OUT "method:\n" LORA "  - type: prefix\n    rows: many\n", NULL,
     "run.yaml:7: 'rows' in method must be an integer, found 'many'"},
    {MODEL DATA OUT "rows: 3\nmethod:\n" LORA PREFIX, NULL,
     "run.yaml:4: unknown key 'rows' (did you mean 'method.rows'?)"},
    {MODEL DATA OUT "method:\n  type: lora\n  learning_rate: 0\n", NULL,
     "run.yaml:6: 'learning_rate' in method must be above 0 and at most 1000000, found '0'"},
    {MODEL DATA OUT "method:\n  type: lora\n  learning_rate: fast\n", NULL,
     "run.yaml:6: 'learning_rate' in method must be a number, found 'fast'"},
    {MODEL DATA OUT "method:\n  type: lora\n  learnin_rate: 1\n", NULL,
     "run.yaml:6: unknown key 'learnin_rate' in method (did you mean 'learning_rate'?)"},
    {MODEL DATA OUT "training: {learning_rate: 0}\nmethod:\n" LORA PREFIX, NULL,
     "run.yaml:7: 'learning_rate' in method needs one in training above 0, whose schedule it follows"},
    {MODEL DATA OUT "method:\n" LORA PREFIX, "method.r=5",
     "command line: 'method.r=5': name an entry of the list by its type or name"},
    {MODEL DATA OUT "method:\n" LORA PREFIX, "method.ia3.r=5",
     "command line: 'method.ia3.r=5': 'ia3' is not a section"},
    /* routes of a single run */
    {MODEL OUT "method: {type: lora}\ndata:\n  train: a\n  route: sst\n", NULL,
     "run.yaml:6: missing key 'route_field' in data: route_field, route and routes are given together"},
    {MODEL OUT "method: {type: lora}\ndata: {train: a, route_field: f, route: b}\n", NULL,
     "run.yaml:4: missing key 'routes' in data: route_field, route and routes are given together"},
    {MODEL OUT "method: {type: lora}\ndata: {train: a, route_field: f, route: b, routes: [a, c]}\n", NULL,
     "run.yaml:4: 'route' in data, 'b', is not among 'routes'; add it"},
};

static const bad_t bad_adapters[] = {
    {MODEL DATA OUT "adapters: sst\n", NULL,
     "run.yaml:4: 'adapters' must be a mapping with field and each, found a single value"},
    {MODEL DATA OUT "adapters: {field: task}\n", NULL, "run.yaml:4: missing key 'each' in adapters"},
    {MODEL DATA OUT "adapters:\n  each:\n    - {name: a, method: {type: lora}}\n", NULL,
     "run.yaml:4: missing key 'field' in adapters"},
    {MODEL DATA OUT "adapters: {field: [task], each: [{name: a}]}\n", NULL,
     "run.yaml:4: 'field' in adapters must be the name of a field of the examples, found a list"},
    {MODEL DATA OUT "adapters:\n  field: task\n  each: []\n", NULL,
     "run.yaml:6: 'each' in adapters must not be an empty list"},
    {MODEL DATA OUT "adapters:\n  field: task\n  each: {name: a}\n", NULL,
     "run.yaml:6: 'each' in adapters must be a list of adapters, found a mapping"},
    {MODEL DATA OUT "adapters:\n  feild: task\n", NULL,
     "run.yaml:5: unknown key 'feild' in adapters (did you mean 'field'?)"},
    {EACH SST SST, NULL, "run.yaml:8: two adapters are named 'sst'; rename one"},
    {EACH SST "    - sst\n", NULL,
     "run.yaml:8: an entry of 'each' must be a mapping with name and method, found a single value"},
    {EACH "    - {method: {type: lora}}\n", NULL, "run.yaml:7: missing key 'name' in adapters"},
    {EACH "    - {name: a/b, method: {type: lora}}\n", NULL,
     "run.yaml:7: 'name' in adapters, 'a/b', must be at most 64 letters, digits, '_', '-' and '.', the first a letter "
     "or digit: it is a directory, too"},
    {EACH "    - {name: .., method: {type: lora}}\n", NULL,
     "run.yaml:7: 'name' in adapters, '..', must be at most 64 letters, digits, '_', '-' and '.', the first a letter "
     "or digit: it is a directory, too"},
    {EACH "    - {name: [a], method: {type: lora}}\n", NULL,
     "run.yaml:7: 'name' in adapters must be a text, found a list"},
    {EACH SST "    - {name: rte}\n", NULL, "run.yaml:8: missing key 'method' in adapters"},
    {EACH SST "    - {name: rte, methods: {type: lora}}\n", NULL,
     "run.yaml:8: unknown key 'methods' in adapters (did you mean 'method'?)"},
    {EACH SST "    - {name: rte, method: {type: lora, r: 0}}\n", NULL,
     "run.yaml:8: 'r' in method must be at least 1 and at most 4096, found '0'"},
    {EACH SST "    - {name: rte, method: [{type: lora}, {type: lora}]}\n", NULL,
     "run.yaml:8: 'method' has two entries of the type 'lora'; give each type once, because their tensors have the "
     "same names"},
    {EACH SST "    - {name: rte, method: {type: lora}, training: 5}\n", NULL,
     "run.yaml:8: 'training' in adapters must be a mapping, found a single value"},
    {EACH SST "    - name: rte\n      method: {type: lora}\n      training: {sed: 5}\n", NULL,
     "run.yaml:10: unknown key 'sed' in training (did you mean 'seed'?)"},
    {EACH SST "method: {type: lora}\n", NULL, "run.yaml:8: 'method' and 'adapters' exclude each other; keep one"},
    {EACH SST "resume_from_checkpoint: x.h5\n", NULL,
     "run.yaml:8: 'resume_from_checkpoint' must be auto or never with 'adapters': each continues from its own newest "
     "checkpoint"},
    {MODEL OUT "data: {train: a, route: sst}\nadapters: {field: task, each: [{name: sst, method: {type: lora}}]}\n",
     NULL, "run.yaml:3: 'route' in data and 'adapters' exclude each other; adapters route by their own 'field'"},
    {"model: {config: gpt2-124m, tokenizer: t}\n" DATA OUT "adapters:\n  field: task\n  each:\n" SST
     "    - {name: rte, method: {type: lora}, training: {seed: 1}}\n",
     NULL,
     "run.yaml:8: 'seed' in training must be the same for all adapters of a model that is made from 'config': they "
     "begin with one base"},
    {MODEL DATA "adapters: {field: task, each: [{name: sst, method: {type: lora}}]}\n", NULL,
     "run.yaml: missing key 'output_dir'"},
    {MODEL OUT "adapters: {field: task, each: [{name: sst, method: {type: lora}}]}\n", NULL,
     "run.yaml: missing key 'data'"},
    {EACH SST RTE, "adapters.each.cola.method.r=3",
     "command line: 'adapters.each.cola.method.r=3': 'cola' is not a section"},
};

static int count_wrong(const bad_t *bad, size_t n) {
    int wrong = 0;
    for (size_t i = 0; i < n; i++) {
        const bad_t *b = &bad[i];
        config_t c = {0};
        status_t st =
            config_parse("run.yaml", b->text, strlen(b->text), &b->override, b->override != NULL, &two_methods, &c);
        if (st != ST_USAGE || strcmp(st_message(), b->message) != 0) {
            print_error("%s\n  expected (2) %s\n  got      (%d) %s\n", b->text, b->message, st_exit_code(st),
                        st_message());
            wrong++;
        }
        assert_null(c.pool.head);
        st_clear();
    }
    return wrong;
}

static void test_bad_lists(void **state) {
    (void)state;
    assert_int_equal(count_wrong(bad_lists, sizeof bad_lists / sizeof *bad_lists), 0);
}

static void test_bad_adapters(void **state) {
    (void)state;
    assert_int_equal(count_wrong(bad_adapters, sizeof bad_adapters / sizeof *bad_adapters), 0);
}

static config_t load(const char *text, const char *const *overrides, int count) {
    config_t c = {0};
    status_t st = config_parse("conf/run.yaml", text, strlen(text), overrides, count, &two_methods, &c);
    if (st != ST_OK) print_error("%s\n", st_message());
    assert_int_equal(st, ST_OK);
    return c;
}

static void assert_same_when_read_again(const config_t *c) {
    strbuf_t first = {0}, second = {0}, diff = {0};
    assert_int_equal(config_dump(c, &first), ST_OK);
    config_t again = load(first.data, NULL, 0);
    assert_int_equal(config_dump(&again, &second), ST_OK);
    assert_string_equal(first.data, second.data);
    assert_int_equal(config_diff(c, &again, &diff), ST_OK);
    assert_int_equal(diff.len, 0);
    strbuf_release(&first);
    strbuf_release(&second);
    strbuf_release(&diff);
    config_release(&again);
}

static void test_list(void **state) {
    (void)state;
    const char *overrides[] = {"method.lora.r=16", "method.prefix.learning_rate=0.5"};
    config_t c = load(MODEL DATA OUT "method:\n" LORA PREFIX, NULL, 0);
    assert_int_equal(c.method_count, 2);
    assert_string_equal(c.method[0].type, "lora");
    assert_string_equal(c.method[1].type, "prefix");
    assert_int_equal(((const sample_lora_t *)c.method[0].cfg)->r, 4);
    assert_int_equal(((const prefix_t *)c.method[1].cfg)->rows, 3);
    assert_true(c.method[0].learning_rate == 0 && c.method[1].learning_rate == 1e-2);
    assert_int_equal(c.method[1].line, 6);
    assert_same_when_read_again(&c);
    int runs;
    assert_ptr_equal(config_runs(&c, &runs), &c);
    assert_int_equal(runs, 1);

    config_t other = load(MODEL DATA OUT "method:\n" LORA PREFIX, overrides, 2);
    strbuf_t diff = {0};
    assert_int_equal(config_diff(&c, &other, &diff), ST_OK);
    assert_string_equal(diff.data, "method.lora.r: 4 -> 16\nmethod.prefix.learning_rate: 0.01 -> 0.5\n");
    config_release(&other);
    strbuf_clear(&diff);
    other = load(MODEL DATA OUT "method:\n" PREFIX LORA, NULL, 0);
    assert_int_equal(config_diff(&c, &other, &diff), ST_OK);
    assert_string_equal(diff.data, "method.type: lora, prefix -> prefix, lora\n");
    strbuf_release(&diff);
    config_release(&other);
    config_release(&c);
}

static void test_adapters(void **state) {
    (void)state;
    const char *overrides[] = {"adapters.each.sst.method.r=16", "adapters.each.rte.method.lora.r=32",
                               "training.max_steps=7"};
    config_t c = load(EACH SST RTE "training: {seed: 3, learning_rate: 1e-3}\n", overrides, 3);
    int runs;
    const config_t *run = config_runs(&c, &runs);
    assert_int_equal(runs, 2);
    assert_string_equal(run[0].name, "sst");
    assert_string_equal(run[0].output_dir, "conf/o/sst");
    assert_string_equal(run[1].output_dir, "conf/o/rte");
    assert_string_equal(run[1].data.route_field, "task");
    assert_string_equal(run[1].data.route, "rte");
    assert_int_equal(run[1].data.routes.count, 2);
    assert_string_equal(run[1].data.routes.items[0], "sst");
    assert_string_equal(run[0].data.train.items[0].path, "conf/a.jsonl");
    assert_int_equal(run[0].method_count, 1);
    assert_int_equal(run[1].method_count, 2);
    assert_int_equal(((const sample_lora_t *)run[0].method[0].cfg)->r, 16);
    assert_int_equal(((const sample_lora_t *)run[1].method[1].cfg)->r, 32);
    for (int i = 0; i < 2; i++) assert_true(run[i].training.seed == 3 && run[i].training.max_steps == 7);
    assert_true(run[0].training.learning_rate == 1e-3 && run[1].training.learning_rate == 1e-2);
    for (int i = 0; i < 2; i++) assert_same_when_read_again(&run[i]);
    config_release(&c);

    /* an adapter's key takes the place of its partner */
    c = load(EACH "    - {name: a, method: {type: lora}, training: {num_train_epochs: 2}}\ntraining: {max_steps: 5}\n",
             NULL, 0);
    run = config_runs(&c, &runs);
    assert_true(runs == 1 && run->training.max_steps == 0 && run->training.num_train_epochs == 2);
    config_release(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_lists),
        cmocka_unit_test(test_bad_adapters),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_adapters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
