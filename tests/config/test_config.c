/* The configuration: every value in its place, and the exact words of every mistake. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common_lora_fields.h"
#include "data/dataset.h"
#include "data/render.h"
#include "data/nearest.h"

#define MODEL  "model: m\n"
#define METHOD "method: {type: lora}\n"
#define DATA   "data: {train: a.jsonl}\n"
#define OUT    "output_dir: o\n"
#define BASE   MODEL METHOD DATA OUT /* lines 1 to 4 */

typedef struct bad {
    const char *text;
    const char *override; /* NULL: none */
    const char *message;
} bad_t;

static const bad_t bad_configs[] = {
    /* unknown keys */
    {MODEL "method:\n  type: lora\n  lora_aplha: 16\n" DATA OUT, NULL,
     "run.yaml:4: unknown key 'lora_aplha' in method (did you mean 'lora_alpha'?)"},
    {BASE "modle: x\n", NULL, "run.yaml:5: unknown key 'modle' (did you mean 'model'?)"},
    {BASE "training:\n  seed: 1\n  frobnicate: 2\n", NULL, "run.yaml:7: unknown key 'frobnicate' in training"},
    {BASE "learning_rate: 1e-3\n", NULL,
     "run.yaml:5: unknown key 'learning_rate' (did you mean 'training.learning_rate'?)"},
    {BASE "training:\n  output_dir: x\n", NULL,
     "run.yaml:6: unknown key 'output_dir' in training (did you mean 'output_dir' at the top level?)"},
    {BASE "lora_alpha: 4\n", NULL, "run.yaml:5: unknown key 'lora_alpha' (did you mean 'method.lora_alpha'?)"},
    {MODEL METHOD "data:\n  train:\n    - {path: a, wieght: 2}\n" OUT, NULL,
     "run.yaml:5: unknown key 'wieght' in train (did you mean 'weight'?)"},
    {BASE "'': 1\n", NULL, "run.yaml:5: unknown key ''"},
    {BASE, "training.max_step=5", "command line: unknown key 'max_step' in training (did you mean 'max_steps'?)"},
    {BASE, "trainig.max_steps=5", "command line: unknown key 'trainig' (did you mean 'training'?)"},
    /* types */
    {MODEL "method: {type: lora, r: eight}\n" DATA OUT, NULL,
     "run.yaml:2: 'r' in method must be an integer, found 'eight'"},
    {MODEL "method: {type: lora, r: 8.0}\n" DATA OUT, NULL,
     "run.yaml:2: 'r' in method must be an integer, found '8.0'"},
    {MODEL "method: {type: lora, r: '8'}\n" DATA OUT, NULL, "run.yaml:2: 'r' in method must be an integer, found '8'"},
    {MODEL "method: {type: lora, r: +}\n" DATA OUT, NULL, "run.yaml:2: 'r' in method must be an integer, found '+'"},
    {MODEL "method: {type: lora, r: [8]}\n" DATA OUT, NULL,
     "run.yaml:2: 'r' in method must be an integer, found a list"},
    {MODEL "method:\n  type: lora\n  r:\n" DATA OUT, NULL,
     "run.yaml:4: 'r' in method must be an integer, found nothing"},
    {MODEL "method: {type: lora, use_rslora: yes}\n" DATA OUT, NULL,
     "run.yaml:2: 'use_rslora' in method must be true or false, found 'yes'"},
    {BASE "training: {learning_rate: fast}\n", NULL,
     "run.yaml:5: 'learning_rate' in training must be a number, found 'fast'"},
    {BASE "training: {learning_rate: .inf}\n", NULL,
     "run.yaml:5: 'learning_rate' in training must be a number, found '.inf'"},
    {BASE "training: {learning_rate: 1e999}\n", NULL,
     "run.yaml:5: 'learning_rate' in training must be a finite number, found '1e999'"},
    {BASE "training: {seed: 99999999999999999999}\n", NULL,
     "run.yaml:5: 'seed' in training must be an integer of at most 18 digits, found '99999999999999999999'"},
    {BASE "training: 5\n", NULL, "run.yaml:5: 'training' must be a mapping, found a single value"},
    {MODEL METHOD "data: [a, b]\n" OUT, NULL, "run.yaml:3: 'data' must be a mapping, found a list"},
    {MODEL "method: {type: lora, target_modules: {a: b}}\n" DATA OUT, NULL,
     "run.yaml:2: 'target_modules' in method must be a text or a list of texts, found a mapping"},
    {MODEL "method: {type: lora, target_modules: []}\n" DATA OUT, NULL,
     "run.yaml:2: 'target_modules' in method must not be an empty list"},
    {MODEL "method: {type: lora, target_modules: [a, [b]]}\n" DATA OUT, NULL,
     "run.yaml:2: 'target_modules' in method must be a list of texts, found a list"},
    {MODEL METHOD "data: {train: []}\n" OUT, NULL, "run.yaml:3: 'train' in data must not be an empty list"},
    {MODEL METHOD "data: {train: [[a]]}\n" OUT, NULL,
     "run.yaml:3: 'train' in data must be a path, or a list of paths or {path, weight}, found a list"},
    {MODEL METHOD DATA "output_dir: ''\n", NULL, "run.yaml:4: 'output_dir' must not be empty"},
    {MODEL METHOD DATA "output_dir: [x]\n", NULL, "run.yaml:4: 'output_dir' must be a path, found a list"},
    {BASE, "training.max_steps=many", "command line: 'max_steps' in training must be an integer, found 'many'"},
    /* ranges and choices */
    {MODEL "method: {type: lora, r: 0}\n" DATA OUT, NULL,
     "run.yaml:2: 'r' in method must be at least 1 and at most 4096, found '0'"},
    {MODEL "method: {type: lora, lora_dropout: 1.0}\n" DATA OUT, NULL,
     "run.yaml:2: 'lora_dropout' in method must be at least 0 and below 1, found '1.0'"},
    {MODEL "method: {type: lora, lora_alpha: 0}\n" DATA OUT, NULL,
     "run.yaml:2: 'lora_alpha' in method must be above 0, found '0'"},
    {BASE "training: {max_steps: -3}\n", NULL, "run.yaml:5: 'max_steps' in training must be at least 1, found '-3'"},
    {BASE "training:\n  warmup_ratio: 1.5\n", NULL,
     "run.yaml:6: 'warmup_ratio' in training must be at least 0 and at most 1, found '1.5'"},
    {BASE "save_total_limit: -1\n", NULL, "run.yaml:5: 'save_total_limit' must be at least 0, found '-1'"},
    {MODEL METHOD "data: {train: a, weight: 1}\n" OUT, NULL, "run.yaml:3: unknown key 'weight' in data"},
    {MODEL METHOD "data: {train: [{path: a, weight: 0}]}\n" OUT, NULL,
     "run.yaml:3: 'weight' in train must be above 0, found '0'"},
    {MODEL METHOD "data: {train: a, packing: best_fit}\n" OUT, NULL,
     "run.yaml:3: 'packing' in data must be one of best-fit, wrapped, none, found 'best_fit' (did you mean "
     "'best-fit'?)"},
    {MODEL METHOD "data: {train: a, format: parquet}\n" OUT, NULL,
     "run.yaml:3: 'format' in data must be one of auto, text, prompt-completion, chat, alpaca, sharegpt, found "
     "'parquet'"},
    {"model: {path: m, dtype: float16}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: 'dtype' in model must be one of float32, bfloat16, found 'float16' (did you mean 'bfloat16'?)"},
    {MODEL "method: {type: lroa}\n" DATA OUT, NULL, "run.yaml:2: unknown method 'lroa' (did you mean 'lora'?)"},
    {MODEL "method: {type: prefix_tuning}\n" DATA OUT, NULL, "run.yaml:2: unknown method 'prefix_tuning'; known: lora"},
    {MODEL "method: {type: [lora]}\n" DATA OUT, NULL, "run.yaml:2: 'type' in method must be the name of a method"},
    {MODEL "method: [{type: lora}, {type: lora}]\n" DATA OUT, NULL,
     "run.yaml:2: 'method' has two entries of the type 'lora'; give each type once, because their tensors have the "
     "same names"},
    /* missing */
    {METHOD DATA OUT, NULL, "run.yaml: missing key 'model'"},
    {MODEL DATA OUT, NULL, "run.yaml: missing key 'method'"},
    {MODEL METHOD OUT, NULL, "run.yaml: missing key 'data'"},
    {MODEL METHOD DATA, NULL, "run.yaml: missing key 'output_dir'"},
    {MODEL "method: {r: 4}\n" DATA OUT, NULL, "run.yaml:2: missing key 'type' in method"},
    {MODEL METHOD "data: {eval: b}\n" OUT, NULL, "run.yaml:3: missing key 'train' in data"},
    {"model:\n" METHOD DATA OUT, NULL, "run.yaml:1: missing key 'model'"},
    {"model: {dtype: float32}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: missing key 'path' in model; or give 'config' and 'tokenizer' for a model made anew"},
    {"model: {config: llama-5m}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: 'config' in model needs 'tokenizer', a Hugging Face directory or GGUF file"},
    {"model: {config: llama-5m, path: p}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: 'path' and 'config' (line 1) in model exclude each other; keep one"},
    {"model: {path: p, tokenizer: t}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: 'tokenizer' and 'path' (line 1) in model exclude each other; keep one"},
    {"model: {config: llama-5n, tokenizer: t}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: model.config: there is no model 'llama-5n' (did you mean 'llama-5m'?)"},
    {"model: {config: a/b.yaml, tokenizer: t}\n" METHOD DATA OUT, NULL,
     "run.yaml:1: model.config: there is no file 'a/b.yaml'"},
    /* keys that exclude each other, rules between keys */
    {BASE "training:\n  max_steps: 5\n  seed: 1\n  num_train_epochs: 2\n", NULL,
     "run.yaml:8: 'num_train_epochs' and 'max_steps' (line 6) in training exclude each other; keep one"},
    {BASE "training:\n  global_batch_tokens: 512\n  global_batch_size: 4\n", NULL,
     "run.yaml:7: 'global_batch_size' and 'global_batch_tokens' (line 6) in training exclude each other; keep one"},
    {BASE "training: {warmup_ratio: 0.1}\n", "training.warmup_steps=5",
     "command line: 'warmup_steps' and 'warmup_ratio' (line 5) in training exclude each other; keep one"},
    {BASE "training:\n  micro_batch_tokens: 512\n", NULL,
     "run.yaml:6: 'micro_batch_tokens' in training (512) is below 'max_seq_length' in data (1024); raise it or "
     "shorten the sequences"},
    {BASE, "data.max_seq_length=4096",
     "command line: 'micro_batch_tokens' in training (2048) is below 'max_seq_length' in data (4096); raise it or "
     "shorten the sequences"},
    {BASE "eval_steps: 10\n", NULL, "run.yaml:5: 'eval_steps' needs 'eval' in data; give a file or remove it"},
    {BASE "training: {lr_scheduler_type: wsd, warmup_ratio: 0.6, wsd_decay_ratio: 0.5}\n", NULL,
     "run.yaml:5: 'warmup_ratio' and 'wsd_decay_ratio' in training add up to more than 1; lower one"},
    /* YAML itself */
    {"", NULL, "run.yaml: the file is empty; it needs model, method, data and output_dir"},
    {"# only a comment\n", NULL, "run.yaml: the file is empty; it needs model, method, data and output_dir"},
    {"- a\n- b\n", NULL, "run.yaml:1: the file must be a mapping of keys to values"},
    {"just text\n", NULL, "run.yaml:1: the file must be a mapping of keys to values"},
    {BASE "model: n\n", NULL, "run.yaml:5: duplicate key 'model', first in line 1; keep one"},
    {MODEL "method: {type: lora, r: 1, r: 2}\n" DATA OUT, NULL,
     "run.yaml:2: duplicate key 'r', first in line 2; keep one"},
    {"model: &x m\n" METHOD DATA OUT, NULL, "run.yaml:1: anchor '&x' is not allowed; write the value out"},
    {MODEL METHOD DATA "output_dir: *x\n", NULL, "run.yaml:4: alias '*x' is not allowed; write the value out"},
    {"model: !!str m\n" METHOD DATA OUT, NULL, "run.yaml:1: tag 'tag:yaml.org,2002:str' is not allowed; remove it"},
    {BASE "? [a]\n: b\n", NULL, "run.yaml:5: a key must be a plain word, found a list, a mapping or an alias"},
    {BASE "---\nmodel: m\n", NULL, "run.yaml:5: a second document; keep one"},
    {MODEL METHOD "data: {train: a\n" OUT, NULL, "run.yaml:4: not valid YAML: did not find expected ',' or '}'"},
    {MODEL "  method: x: y\n", NULL, "run.yaml:2: not valid YAML: mapping values are not allowed in this context"},
    {MODEL "method: \xff\xfe\n", NULL, "run.yaml:2: not valid UTF-8 text; save the file as UTF-8"},
    {MODEL "method: \xed\xa0\x80\n", NULL, "run.yaml:2: not valid UTF-8 text; save the file as UTF-8"},
    {MODEL METHOD DATA "output_dir: \"a\\0b\"\n", NULL, "run.yaml:4: a text contains a NUL character; remove it"},
    {"model: [[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]\n", NULL, "run.yaml:1: nested more than 16 levels deep"},
    /* overrides as such */
    {BASE, "max_steps", "command line: 'max_steps' is not of the form key=value"},
    {BASE, "=5", "command line: '=5' is not of the form key=value"},
    {BASE, "training.=5", "command line: 'training.=5' is not of the form key=value"},
    {BASE, "output_dir.x=5", "command line: 'output_dir.x=5': 'output_dir' is not a section"},
    {BASE, "data.train=[a", "command line: not valid YAML: did not find expected ',' or ']'"},
};

static void test_bad(void **state) {
    (void)state;
    int wrong = 0;
    for (size_t i = 0; i < sizeof bad_configs / sizeof *bad_configs; i++) {
        const bad_t *b = &bad_configs[i];
        config_t c = {0};
        status_t st =
            config_parse("run.yaml", b->text, strlen(b->text), &b->override, b->override != NULL, &sample_methods, &c);
        if (st != ST_USAGE || strcmp(st_message(), b->message) != 0) {
            print_error("%s\n  expected (2) %s\n  got      (%d) %s\n", b->text, b->message, st_exit_code(st),
                        st_message());
            wrong++;
        }
        assert_null(c.pool.head);
        st_clear();
    }
    assert_int_equal(wrong, 0);
}

static config_t load(const char *name, const char *text, const char *const *overrides, int count) {
    config_t c = {0};
    status_t st = config_parse(name, text, strlen(text), overrides, count, &sample_methods, &c);
    if (st != ST_OK) print_error("%s\n", st_message());
    assert_int_equal(st, ST_OK);
    return c;
}

static const sample_lora_t *lora(const config_t *c) {
    return c->method[0].cfg;
}

static void test_defaults(void **state) {
    (void)state;
    config_t c = load("run.yaml", BASE, NULL, 0);
    assert_string_equal(c.model.path, "m");
    assert_int_equal(c.model.dtype, CONFIG_DTYPE_FLOAT32);
    assert_int_equal(c.method_count, 1);
    assert_string_equal(c.method[0].type, "lora");
    assert_int_equal(c.method[0].line, 2);
    assert_int_equal(lora(&c)->r, 8);
    assert_true(lora(&c)->lora_alpha == 8.0);
    assert_null(lora(&c)->target_modules.regex);
    assert_int_equal(lora(&c)->target_modules.count, 0);
    assert_int_equal(c.data.train.count, 1);
    assert_true(c.data.train.items[0].weight == 1.0);
    assert_null(c.data.eval);
    assert_int_equal(c.data.format, FORMAT_AUTO);
    assert_int_equal(c.data.chat_template, CHAT_CHATML);
    assert_int_equal(c.data.max_seq_length, 1024);
    assert_int_equal(c.data.packing, PACKING_BEST_FIT);
    assert_int_equal(c.data.truncation, TRUNCATE_ERROR);
    assert_false(c.data.train_on_inputs);
    assert_true(c.data.append_eos && c.data.shuffle);
    const config_training_t *t = &c.training;
    assert_int_equal(t->global_batch_size, 16);
    assert_int_equal(t->global_batch_tokens, 0);
    assert_int_equal(t->micro_batch_tokens, 2048);
    assert_int_equal(t->max_steps, 0);
    assert_true(t->num_train_epochs == 1.0 && t->learning_rate == 2e-4 && t->warmup_ratio == 0 && t->min_lr_ratio == 0);
    assert_int_equal(t->lr_scheduler_type, CONFIG_SCHEDULE_LINEAR);
    assert_true(t->adam_beta1 == 0.9 && t->adam_beta2 == 0.999 && t->adam_epsilon == 1e-8);
    assert_true(t->weight_decay == 0 && t->max_grad_norm == 1.0 && t->wsd_decay_ratio == 0.1);
    assert_false(t->gradient_checkpointing);
    assert_true(t->cuda_graph);
    assert_int_equal(t->reduction, CONFIG_REDUCTION_CANONICAL);
    assert_int_equal(t->seed, 42);
    assert_string_equal(c.output_dir, "o");
    assert_int_equal(c.logging_steps, 1);
    assert_int_equal(c.eval_steps + c.save_steps + c.save_total_limit, 0);
    assert_string_equal(c.resume_from_checkpoint, "auto");
    config_release(&c);
}

/* The order of our choices is the order of the enumerations of data/. */
static void test_choices_match_data(void **state) {
    (void)state;
    char text[512];
    for (int f = 0; f < FORMAT_COUNT; f++)
        for (int k = 0; k < CHAT_COUNT; k++) {
            int p = f % PACKING_COUNT, u = k % TRUNCATE_COUNT;
            snprintf(text, sizeof text,
                     MODEL METHOD OUT "data: {train: a, format: %s, chat_template: %s, packing: %s, truncation: %s}",
                     data_format_name((data_format_t)f), chat_template_name((chat_template_t)k),
                     packing_name((packing_t)p), truncation_name((truncation_t)u));
            config_t c = load("run.yaml", text, NULL, 0);
            assert_int_equal(c.data.format, f);
            assert_int_equal(c.data.chat_template, k);
            assert_int_equal(c.data.packing, p);
            assert_int_equal(c.data.truncation, u);
            config_release(&c);
        }
}

static const char full_text[] =
    "model: {path: models/x, dtype: float32}\n"
    "method:\n- type: lora\n  r: 4\n  lora_alpha: 1.5e1\n  target_modules: [q_proj, 'v proj', \"a\\\"b\"]\n"
    "  init_from: ./start\n"
    "data:\n  train: [{path: a.jsonl, weight: 0.25}, /abs/b.jsonl]\n  eval: e.jsonl\n  packing: none\n"
    "  max_seq_length: 256\n"
    "training:\n  global_batch_tokens: 4096\n  micro_batch_tokens: 512\n  max_steps: 200\n  learning_rate: 3e-05\n"
    "  lr_scheduler_type: cosine\n  warmup_steps: 7\n  adam_epsilon: 1.0e-6\n  seed: 123456789012345\n"
    "output_dir: runs/\xc3\xa9\nresume_from_checkpoint: never\neval_steps: 3\n";

static void test_values_paths_overrides(void **state) {
    (void)state;
    const char *overrides[] = {"training.max_steps=null",
                               "training.num_train_epochs=2.5",
                               "method.r=16",
                               "data.eval=here.jsonl",
                               "model.path=there",
                               "method.target_modules=all-linear",
                               "method.r=32",
                               "logging_steps=5",
                               "data.train={path: c.jsonl, weight: 2}"};
    config_t c = load("conf/run.yaml", full_text, NULL, 0);
    assert_string_equal(c.model.path, "conf/models/x");
    assert_string_equal(c.data.train.items[0].path, "conf/a.jsonl");
    assert_string_equal(c.data.train.items[1].path, "/abs/b.jsonl");
    assert_true(c.data.train.items[0].weight == 0.25);
    assert_string_equal(c.output_dir, "conf/runs/\xc3\xa9");
    assert_string_equal(lora(&c)->init_from, "conf/./start");
    assert_int_equal(lora(&c)->target_modules.count, 3);
    assert_string_equal(lora(&c)->target_modules.items[2], "a\"b");
    assert_int_equal(c.training.global_batch_size, 0);
    assert_int_equal(c.training.global_batch_tokens, 4096);
    assert_int_equal(c.training.max_steps, 200);
    assert_true(c.training.num_train_epochs == 0);
    assert_string_equal(c.resume_from_checkpoint, "never");
    config_release(&c);

    c = load("conf/run.yaml", full_text, overrides, (int)(sizeof overrides / sizeof *overrides));
    assert_int_equal(c.training.max_steps, 0);
    assert_true(c.training.num_train_epochs == 2.5);
    assert_int_equal(lora(&c)->r, 32);
    assert_string_equal(lora(&c)->target_modules.regex, "all-linear");
    assert_string_equal(c.data.eval, "here.jsonl"); /* relative to the current directory */
    assert_string_equal(c.model.path, "there");
    assert_int_equal(c.data.train.count, 1);
    assert_string_equal(c.data.train.items[0].path, "c.jsonl");
    assert_int_equal(c.logging_steps, 5);
    config_release(&c);

    /* a section that the file does not have, and a short form that gets a second key */
    const char *more[] = {"training.seed=7", "model.dtype=float32"};
    c = load("conf/run.yaml", BASE, more, 2);
    assert_int_equal(c.training.seed, 7);
    assert_string_equal(c.model.path, "conf/m");
    config_release(&c);
}

static void test_dump_round_trip(void **state) {
    (void)state;
    const char *texts[] = {
        full_text, BASE, BASE "training: {learning_rate: 0.1234567890123456789, max_grad_norm: 1e10, weight_decay: 0}"};
    for (size_t i = 0; i < 3; i++) {
        config_t c = load("conf/run.yaml", texts[i], NULL, 0);
        strbuf_t first = {0}, second = {0}, diff = {0};
        assert_int_equal(config_dump(&c, &first), ST_OK);
        config_t again = load("elsewhere/config.yaml", first.data, NULL, 0);
        assert_int_equal(config_dump(&again, &second), ST_OK);
        assert_string_equal(first.data, second.data);
        assert_memory_equal(&c.training, &again.training, sizeof c.training);
        assert_int_equal(config_diff(&c, &again, &diff), ST_OK);
        assert_int_equal(diff.len, 0);
        if (i == 0) {
            assert_non_null(strstr(first.data, "\n  learning_rate: 3.0e-05\n"));
            assert_non_null(strstr(first.data, "\n  target_modules: [q_proj, \"v proj\", \"a\\\"b\"]\n"));
            assert_non_null(strstr(first.data, "\n  num_train_epochs: null\n"));
            assert_non_null(strstr(first.data, "/conf/start\n")); /* without the dot */
        }
        strbuf_release(&first);
        strbuf_release(&second);
        strbuf_release(&diff);
        config_release(&c);
        config_release(&again);
    }
}

static void test_diff(void **state) {
    (void)state;
    const char *free_keys[] = {"training.max_steps=900",
                               "training.micro_batch_tokens=9000",
                               "training.reduction=fast",
                               "output_dir=x",
                               "logging_steps=9",
                               "data.eval=z",
                               "eval_steps=1",
                               "save_steps=2",
                               "save_total_limit=3",
                               "resume_from_checkpoint=x",
                               "training.gradient_checkpointing=true",
                               "training.cuda_graph=false"};
    const char *bound_keys[] = {"training.learning_rate=1e-4", "method.r=5", "data.shuffle=false", "training.seed=1",
                                "training.warmup_steps=8"};
    config_t a = load("run.yaml", full_text, NULL, 0);
    config_t b = load("run.yaml", full_text, free_keys, (int)(sizeof free_keys / sizeof *free_keys));
    strbuf_t out = {0};
    assert_int_equal(config_diff(&a, &b, &out), ST_OK);
    assert_int_equal(out.len, 0);
    config_release(&b);
    b = load("run.yaml", full_text, bound_keys, (int)(sizeof bound_keys / sizeof *bound_keys));
    assert_int_equal(config_diff(&a, &b, &out), ST_OK);
    assert_string_equal(out.data, "method.r: 4 -> 5\n"
                                  "data.shuffle: true -> false\n"
                                  "training.learning_rate: 3.0e-05 -> 0.0001\n"
                                  "training.warmup_steps: 7 -> 8\n"
                                  "training.seed: 123456789012345 -> 1\n");
    strbuf_release(&out);
    config_release(&a);
    config_release(&b);
}

static void test_files(void **state) {
    (void)state;
    config_t c = {0};
    assert_int_equal(config_load("no/such/run.yaml", NULL, 0, &sample_methods, &c), ST_INPUT);
    assert_string_equal(st_message(), "no/such/run.yaml: cannot open: No such file or directory");
    assert_int_equal(config_load("/", NULL, 0, &sample_methods, &c), ST_INPUT);
    char path[] = "test_config_XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    FILE *f = fdopen(fd, "w");
    fputs(BASE, f);
    fclose(f);
    assert_int_equal(config_load(path, NULL, 0, &sample_methods, &c), ST_OK);
    assert_string_equal(c.model.path, "m");
    config_release(&c);
    f = fopen(path, "w");
    for (int i = 0; i < 30000; i++) fputs("# a line of a large file\n", f);
    fclose(f);
    assert_int_equal(config_load(path, NULL, 0, &sample_methods, &c), ST_USAGE);
    assert_non_null(strstr(st_message(), "larger than 262144 bytes"));
    unlink(path);
}

static void test_nearest(void **state) {
    (void)state;
    assert_int_equal(nearest_distance("abc", "abc"), 0);
    assert_int_equal(nearest_distance("abc", "acb"), 1);
    assert_int_equal(nearest_distance("abc", ""), 3);
    assert_int_equal(nearest_distance("kitten", "sitting"), 3);
    nearest_t n = {.word = "r"};
    nearest_offer(&n, "s");
    assert_null(n.best);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_choices_match_data),
        cmocka_unit_test(test_values_paths_overrides),
        cmocka_unit_test(test_dump_round_trip),
        cmocka_unit_test(test_diff),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
