/* Continuations with several streams: a stream with the single weight 1 is that prompt alone, other weights give the
 * tokens that whole passes over every prompt and sums by hand give, greedily and drawn. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include "tests/common/tiny_model.h"
#include "train/run/generate.h"
#include "train/run/micro.h"

enum { V = 37, PROMPTS = 3, STREAMS = 2, MOST = 12, LONGEST = 6, PLACES = 24 };
#define LABELLED "{type: prompt_tuning, num_virtual_tokens: 2, prompts: {field: task, values: [a, b, c]}}"
#define LORA     "{type: lora, r: 2, lora_alpha: 4, target_modules: all-linear}"

/* The second of two prompts is the first without its beginning, as without a condition. */
static const int32_t text[PROMPTS][LONGEST] = {{3, 7, 1, 12, 5, 9}, {8, 8, 21, 0, 17, 6}, {30, 2, 2, 11, 4, 25}};
static const int64_t length[PROMPTS] = {6, 4, 5};

typedef struct bench {
    tiny_t t;
    loaded_t loaded;
    generator_t generator;
    build_t whole; /* without a cache */
    batch_t batch;
    sequence_t prompt[PROMPTS * STREAMS];
    i32buf_t out[PROMPTS];
} bench_t;

static void ok(status_t st) {
    if (st != ST_OK) fail_msg("%s: %s", st_name(st), st_message());
}

static tokenizer_t *open_tokenizer(void) {
    char dir[] = "graft-streams-XXXXXX", path[64];
    tokenizer_t *t = NULL;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/tokenizer.json", dir);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("{\"version\": \"1.0\", \"model\": {\"type\": \"BPE\", \"vocab\": {\"a\": 0}, \"merges\": []}}", f);
    assert_int_equal(fclose(f), 0);
    ok(tokenizer_open_dir(dir, &t));
    unlink(path);
    rmdir(dir);
    return t;
}

static void set_prompt(sequence_t *s, const int32_t *ids, int64_t n, int32_t label) {
    ok(sequence_add(s, ids, n, 0));
    s->n_prompt = n;
    for (int i = 0; i < VIRTUAL_MAX_FIELDS; i++) s->label[i] = label;
}

/* Continuation i has the streams prompt[2 i] and prompt[2 i + 1]; with labels they differ in nothing else. */
static void open_bench(bench_t *s, const char *config, const char *method) {
    memset(s, 0, sizeof *s);
    tiny_open(&s->t, config, method, DT_F32);
    tiny_randomize(&s->t);
    s->loaded = (loaded_t){.model = s->t.model,
                           .layout = s->t.layout,
                           .tokenizer = open_tokenizer(),
                           .hook = {s->t.hook[0]},
                           .n_method = 1};
    const bool labels = s->t.layout.n_field > 0;
    for (int i = 0; i < PROMPTS; i++) {
        set_prompt(&s->prompt[2 * i], text[i], length[i], 0);
        set_prompt(&s->prompt[2 * i + 1], text[i] + (labels ? 0 : 2), length[i] - (labels ? 0 : 2), 2);
    }
    ok(generator_open(&s->loaded, PROMPTS * STREAMS, PLACES, &s->generator));
    const build_options_t o = {.tail = TAIL_LOGITS, .capacity = {PLACES, 1, 1, 0}};
    ok(build_open(&s->loaded.model, &backend_cpu, s->loaded.hook, 1, o, &s->whole));
    ok(batch_init(&s->batch, PLACES));
}

static void close_bench(bench_t *s) {
    generator_close(&s->generator);
    build_close(&s->whole);
    batch_release(&s->batch);
    tokenizer_close(s->loaded.tokenizer);
    for (int i = 0; i < PROMPTS * STREAMS; i++) sequence_release(&s->prompt[i]);
    for (int i = 0; i < PROMPTS; i++) i32buf_release(&s->out[i]);
    tiny_close(&s->t);
}

static const generate_options_t greedily = {.max_new_tokens = MOST, .top_p = 1};
static const generate_options_t drawn = {.max_new_tokens = MOST, .top_p = 0.9, .temperature = 1.3, .seed = 4};

static void run(bench_t *s, const sequence_t *prompt, const generate_options_t *o, int64_t streams,
                const double *weight) {
    generate_options_t with = *o;
    with.streams = streams;
    with.weight = weight;
    for (int i = 0; i < PROMPTS; i++) i32buf_clear(&s->out[i]);
    ok(generator_run(&s->generator, prompt, PROMPTS, 0, &with, NULL, NULL, s->out));
}

/* Every second prompt from `from` on, each alone, gives s->out. */
static void same_as_alone(bench_t *s, const generate_options_t *o, int from) {
    sequence_t alone[PROMPTS];
    i32buf_t want[PROMPTS];
    for (int i = 0; i < PROMPTS; i++) {
        alone[i] = s->prompt[2 * i + from];
        want[i] = s->out[i];
        s->out[i] = (i32buf_t){0};
    }
    run(s, alone, o, 0, NULL);
    for (int i = 0; i < PROMPTS; i++) {
        assert_int_equal(s->out[i].len, MOST);
        assert_int_equal(want[i].len, MOST);
        assert_memory_equal(s->out[i].data, want[i].data, MOST * sizeof(int32_t));
        i32buf_release(&want[i]);
    }
}

static void test_one_stream_counts(void **state) {
    (void)state;
    const double first[] = {1, 0}, second[] = {0, 1};
    const char *const methods_tested[] = {LORA, LABELLED};
    for (int i = 0; i < 2; i++) {
        bench_t s;
        open_bench(&s, i ? tiny_gpt2 : tiny_llama, methods_tested[i]);
        run(&s, s.prompt, &greedily, STREAMS, first);
        same_as_alone(&s, &greedily, 0);
        run(&s, s.prompt, &greedily, STREAMS, second);
        same_as_alone(&s, &greedily, 1);
        run(&s, s.prompt, &drawn, STREAMS, first);
        same_as_alone(&s, &drawn, 0);
        run(&s, s.prompt, &drawn, STREAMS, second);
        same_as_alone(&s, &drawn, 1);
        close_bench(&s);
    }
}

/* The logits behind a whole sequence, by a pass without a cache. */
static void whole_pass(bench_t *s, const sequence_t *q, double z[V]) {
    batch_t *b = &s->batch;
    batch_clear(b);
    ok(batch_add(b, &s->loaded.layout, q, 0));
    b->n_loss = 1;
    b->loss_row[0] = b->cu_seqlens[1] - 1;
    micro_load(&s->whole, b);
    tape_forward(s->whole.tape);
    const float *row = tape_data(s->whole.tape, s->whole.logits);
    for (int v = 0; v < V; v++) z[v] = (double)row[v];
}

static int32_t best_of(bench_t *s, const sequence_t *streams, const double *weight) {
    double z[V], sum[V] = {0};
    int32_t best = 0;
    for (int j = 0; j < STREAMS; j++) {
        whole_pass(s, &streams[j], z);
        for (int v = 0; v < V; v++) sum[v] += weight[j] * z[v];
    }
    for (int v = 1; v < V; v++)
        if (sum[v] > sum[best]) best = v;
    return best;
}

static void check_by_hand(const char *config, const char *method, const double *weight) {
    bench_t s;
    int differ = 0;
    open_bench(&s, config, method);
    run(&s, s.prompt, &greedily, STREAMS, weight);
    for (int i = 0; i < PROMPTS; i++) {
        sequence_t streams[STREAMS] = {{.n_prefix = 0}, {.n_prefix = 0}};
        for (int j = 0; j < STREAMS; j++) {
            const sequence_t *p = &s.prompt[2 * i + j];
            set_prompt(&streams[j], p->ids.data, p->ids.len, p->label[0]);
        }
        for (int k = 0; k < MOST; k++) {
            int32_t want = best_of(&s, streams, weight);
            assert_int_equal(s.out[i].data[k], want);
            differ += want != best_of(&s, streams, (const double[]){1, 0});
            for (int j = 0; j < STREAMS; j++) ok(sequence_add(&streams[j], &want, 1, 0));
        }
        for (int j = 0; j < STREAMS; j++) sequence_release(&streams[j]);
    }
    assert_true(differ > 0); /* else the first stream alone would do */
    close_bench(&s);
}

static void test_sums_by_hand(void **state) {
    (void)state;
    const double guided[] = {2, -1}, mean[] = {0.5, 0.5};
    check_by_hand(tiny_llama, LORA, guided);
    check_by_hand(tiny_gpt2, LORA, mean);
    check_by_hand(tiny_llama, LABELLED, mean);
    check_by_hand(tiny_gpt2, LABELLED, guided);
}

static void test_refusals(void **state) {
    (void)state;
    bench_t s;
    open_bench(&s, tiny_llama, LABELLED);
    const double many[PROMPTS] = {1, 0, 0};
    generate_options_t o = greedily;
    o.streams = PROMPTS;
    o.weight = many;
    assert_int_equal(generator_run(&s.generator, s.prompt, PROMPTS, 0, &o, NULL, NULL, s.out), ST_INTERNAL);
    o.streams = STREAMS;
    o.weight = NULL;
    assert_int_equal(generator_run(&s.generator, s.prompt, PROMPTS, 0, &o, NULL, NULL, s.out), ST_INTERNAL);
    o.weight = many;
    for (int i = 0; i < VIRTUAL_MAX_FIELDS; i++) s.prompt[1].label[i] = -1; /* there is no prompt for no label */
    assert_int_not_equal(generator_run(&s.generator, s.prompt, PROMPTS, 0, &o, NULL, NULL, s.out), ST_OK);
    st_clear();
    close_bench(&s);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_one_stream_counts), cmocka_unit_test(test_sums_by_hand),
                                       cmocka_unit_test(test_refusals)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
