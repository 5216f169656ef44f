/* graft eval RUN_OR_MODEL --data F [--adapter A ...] [--condition F=V ...]: one JSON object with loss, perplexity and,
 * for data with prompts and completions, exact_match of the greedy continuation. Works under a launcher: micro-batches
 * and examples are dealt. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/cli/cli.h"
#include "train/cli/condition.h"
#include "train/cli/options.h"
#include "train/cli/session.h"
#include "train/run/base.h"
#include "train/run/dataload.h"
#include "train/run/evaluate.h"
#include "train/run/generate.h"

enum { SLOTS = 8, EVAL_TOKENS = 2048, EVAL_LENGTH = 1024 };

typedef struct eval {
    const char *target, *data;
    option_list_t adapter, condition;
    int32_t label[VIRTUAL_MAX_FIELDS];
    int64_t max_seq_length;
    bool no_exact_match;
    config_t config; /* of a run; zero for a model */
    config_data_t settings;
    loaded_t loaded;
    dataset_t *set;
    evaluator_t evaluator;
    generator_t generator;
    double matches[2]; /* right, asked */
} eval_t;

/* A run directory brings its configuration, base model and adapter. */
static status_t open_target(eval_t *e) {
    bool run;
    TRY(base_find_run(e->target, &e->config, &run));
    if (run)
        e->settings = e->config.data;
    else
        e->settings = (config_data_t){
            .format = FORMAT_AUTO, .chat_template = CHAT_CHATML, .max_seq_length = EVAL_LENGTH, .append_eos = true};
    TRY(loaded_open(e->target, e->adapter.item, e->adapter.count, &e->loaded));
    TRY(condition_labels(&e->condition, &e->loaded.layout, e->label));
    int64_t most = e->loaded.model.config.max_positions;
    if (e->max_seq_length) e->settings.max_seq_length = e->max_seq_length;
    if (e->settings.max_seq_length > most) e->settings.max_seq_length = most;
    return ST_OK;
}

static bool is_blank(char c) {
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* Both texts without white space at their ends. */
static bool same_text(const strbuf_t *a, const strbuf_t *b) {
    size_t i = 0, n = a->len, k = 0, m = b->len;
    while (i < n && is_blank(a->data[i])) i++;
    while (n > i && is_blank(a->data[n - 1])) n--;
    while (k < m && is_blank(b->data[k])) k++;
    while (m > k && is_blank(b->data[m - 1])) m--;
    return n - i == m - k && (n == i || !memcmp(a->data + i, b->data + k, n - i));
}

static status_t judge(eval_t *e, const i32buf_t *want, const i32buf_t *got, strbuf_t *a, strbuf_t *b) {
    strbuf_clear(a);
    strbuf_clear(b);
    TRY(tokenizer_decode(e->loaded.tokenizer, want->data, want->len, true, a));
    TRY(tokenizer_decode(e->loaded.tokenizer, got->data, got->len, true, b));
    e->matches[0] += same_text(a, b);
    e->matches[1] += 1;
    return ST_OK;
}

typedef struct group {
    sequence_t prompt[SLOTS]; /* whole examples; the generator stops before their completions */
    i32buf_t want[SLOTS], got[SLOTS];
    int64_t n;
    strbuf_t a, b;
} group_t;

static status_t flush(eval_t *e, group_t *g) {
    int64_t longest = 0;
    for (int64_t i = 0; i < g->n; i++)
        if (g->want[i].len > longest) longest = g->want[i].len;
    /* one token more than the longest answer: a continuation that goes on is no match */
    const generate_options_t o = {.max_new_tokens = longest + 1, .top_p = 1.0};
    if (g->n) TRY(generator_run(&e->generator, g->prompt, g->n, 0, &o, NULL, NULL, g->got));
    for (int64_t i = 0; i < g->n; i++) {
        TRY(judge(e, &g->want[i], &g->got[i], &g->a, &g->b));
        i32buf_clear(&g->want[i]);
        i32buf_clear(&g->got[i]);
    }
    g->n = 0;
    return ST_OK;
}

static bool has_answer(const sequence_t *s) {
    return (s->format == FORMAT_PROMPT_COMPLETION || s->format == FORMAT_ALPACA) && s->n_prompt > 0 &&
           s->n_prompt < s->ids.len;
}

static status_t match_share(eval_t *e, comm_t *comm, group_t *g) {
    int64_t n = dataset_sequences(e->set), eos = tokenizer_eos(e->loaded.tokenizer);
    dataset_scratch_t scratch = {0};
    status_t st = ST_OK;
    for (int64_t i = comm_rank(comm); i < n && st == ST_OK; i += comm_size(comm)) {
        sequence_t *s = &g->prompt[g->n];
        st = dataset_sequence(e->set, i, -1, &scratch, s);
        if (st != ST_OK || !has_answer(s)) continue;
        int64_t end = s->ids.len;
        if (eos >= 0 && e->settings.append_eos && s->ids.data[end - 1] == eos) end--;
        st = i32buf_add(&g->want[g->n], s->ids.data + s->n_prompt, end - s->n_prompt);
        if (st == ST_OK && ++g->n == SLOTS) st = flush(e, g);
    }
    if (st == ST_OK) st = flush(e, g);
    dataset_scratch_release(&scratch);
    return st;
}

static status_t exact_match(eval_t *e, comm_t *comm) {
    int64_t places = dataset_max_tokens(e->set) + generator_virtual(&e->loaded) + 2,
            most = e->loaded.model.config.max_positions;
    TRY(generator_open(&e->loaded, SLOTS, places < most ? places : most, &e->generator));
    group_t g;
    memset(&g, 0, sizeof g);
    status_t st = match_share(e, comm, &g);
    for (int i = 0; i < SLOTS; i++) {
        sequence_release(&g.prompt[i]);
        i32buf_release(&g.want[i]);
        i32buf_release(&g.got[i]);
    }
    strbuf_release(&g.a);
    strbuf_release(&g.b);
    return st;
}

static status_t evaluate(eval_t *e, comm_t *comm, evaluation_t *result) {
    TRY(comm_agree(comm, open_target(e)));
    const dataset_source_t source = {e->data, 1.0};
    const dataload_t load = {.config = &e->settings,
                             .sources = &source,
                             .n_sources = 1,
                             .encoder = encoder_of_tokenizer(e->loaded.tokenizer),
                             .layout = &e->loaded.layout,
                             .label = e->label};
    TRY(dataload_open(comm, &load, &e->set));
    int64_t longest = dataset_max_tokens(e->set) + dataset_virtual_tokens(e->set),
            capacity = longest > EVAL_TOKENS ? longest : EVAL_TOKENS;
    TRY(comm_agree(comm, evaluator_open(&e->loaded, e->set, PACKING_BEST_FIT, capacity, &e->evaluator)));
    TRY(evaluator_run(&e->evaluator, comm, NULL, NULL, result));
    if (!e->no_exact_match) TRY(comm_agree(comm, exact_match(e, comm)));
    return comm_sum_f64(comm, e->matches, 2);
}

static void print_result(const eval_t *e, const evaluation_t *r) {
    printf("{\"loss\":%.9g,\"perplexity\":%.9g", r->loss, exp(r->loss));
    if (e->matches[1] > 0) printf(",\"exact_match\":%.9g", e->matches[0] / e->matches[1]);
    printf(",\"sequences\":%lld,\"tokens\":%lld,\"weight\":%.9g}\n", (long long)dataset_sequences(e->set),
           (long long)r->tokens, r->weight);
}

static status_t body(comm_t *comm, int argc, char **argv) {
    eval_t e;
    memset(&e, 0, sizeof e);
    const char *device = NULL, *dtype = NULL;
    const option_row_t rows[] = {{"--data", OPTION_STRING, &e.data, 0, 0},
                                 {"--adapter", OPTION_LIST, &e.adapter, 0, 0},
                                 {"--condition", OPTION_LIST, &e.condition, 0, 0},
                                 {"--max-seq-length", OPTION_INT, &e.max_seq_length, 2, 1 << 24},
                                 {"--no-exact-match", OPTION_FLAG, &e.no_exact_match, 0, 0},
                                 {"--device", OPTION_STRING, &device, 0, 0},
                                 {"--dtype", OPTION_STRING, &dtype, 0, 0},
                                 {NULL, OPTION_FLAG, NULL, 0, 0}};
    const char *usage = "graft eval RUN_OR_MODEL --data F [--adapter A ...] [--condition F=V ...]";
    TRY(options_parse(argc, argv, rows, &e.target, 1, usage));
    TRY(session_device(device, dtype));
    if (!e.data) return st_raise(ST_USAGE, "command line", "--data is missing; usage: %s", usage);
    evaluation_t result;
    status_t st = evaluate(&e, comm, &result);
    if (st == ST_OK && comm_rank(comm) == 0) print_result(&e, &result);
    if (e.evaluator.sequences) evaluator_close(&e.evaluator);
    if (e.generator.past) generator_close(&e.generator);
    dataset_close(e.set);
    loaded_close(&e.loaded);
    config_release(&e.config);
    return st;
}

status_t cmd_eval(int argc, char **argv) {
    return session_run(body, argc, argv);
}
