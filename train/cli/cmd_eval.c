/* graft eval RUN_OR_MODEL --data F [--adapter A ...] [--condition F=V ...]: one JSON object with loss, perplexity and,
 * for data with prompts and completions, exact_match of the greedy continuation; with --ensemble exact_match alone, of
 * the prompts of all labels of a field together. Works under a launcher: micro-batches and examples are dealt. */
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
#include "train/run/match.h"
#include "train/run/mixture.h"

enum { EVAL_TOKENS = 2048, EVAL_LENGTH = 1024 };

typedef struct eval {
    const char *device, *dtype, *target, *data, *ensemble, *ensemble_field, *mixture;
    option_list_t adapter;
    conditions_t conditions;
    int64_t max_seq_length;
    bool no_exact_match;
    config_t config; /* of a run; zero for a model */
    config_data_t settings;
    loaded_t loaded;
    compute_t where;
    dataset_t *set;
    evaluator_t evaluator;
    mixture_kind_t mixing;
    int field; /* whose labels are mixed */
    mixture_result_t mixed;
    match_options_t match;
    match_result_t matches;
} eval_t;

static const char *const match_names[MATCH_KINDS] = {[MATCH_MEAN] = "mean", [MATCH_VOTE] = "vote"};

/* The field whose labels answer together. */
static status_t find_field(const virtual_layout_t *v, const char *name, int *field) {
    char list[512] = "";
    for (int i = 0; i < v->n_field; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s'%.40s'", i ? ", " : "", v->field[i].name);
        *field = i;
        if (!strcmp(v->field[i].name, name)) return ST_OK;
    }
    return st_raise(ST_USAGE, "--ensemble-field", "no adapter here chooses by a field '%s'; known: %s", name,
                    v->n_field ? list : "none");
}

static status_t choose_ensemble(eval_t *e) {
    e->match = (match_options_t){.kind = MATCH_EACH, .append_eos = e->settings.append_eos};
    if (!e->ensemble) return ST_OK;
    const virtual_layout_t *v = &e->loaded.layout;
    e->match.kind = strcmp(e->ensemble, match_names[MATCH_MEAN]) ? MATCH_VOTE : MATCH_MEAN;
    TRY(find_field(v, e->ensemble_field, &e->match.field));
    if (e->conditions.label[e->match.field] >= 0)
        return st_raise(ST_USAGE, "--condition", "names '%s', all values of which are in the ensemble; remove it",
                        e->ensemble_field);
    if (v->field[e->match.field].n > MATCH_MOST_LABELS)
        return st_raise(ST_USAGE, "--ensemble-field", "'%s' has %d values; at most %d make an ensemble",
                        e->ensemble_field, v->field[e->match.field].n, MATCH_MOST_LABELS);
    e->conditions.label[e->match.field] = 0; /* examples need not name it */
    return ST_OK;
}

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
    TRY(conditions_open(&e->conditions, e->target, &e->adapter, &e->loaded));
    int64_t most = e->loaded.model.config.max_positions;
    if (e->max_seq_length) e->settings.max_seq_length = e->max_seq_length;
    if (e->settings.max_seq_length > most) e->settings.max_seq_length = most;
    if (e->mixing != MIXTURE_NONE) TRY(mixture_field(&e->loaded.layout, e->conditions.label, &e->field));
    return choose_ensemble(e);
}

/* A loss alone: continuations are those of one label. */
static status_t mix(eval_t *e, comm_t *comm, int64_t capacity, evaluation_t *result) {
    mixture_t m;
    status_t st = comm_agree(comm, mixture_open(&e->loaded, e->mixing, e->field, capacity, &m));
    if (st == ST_OK) st = mixture_evaluate(&m, e->set, comm, &e->mixed);
    mixture_close(&m);
    *result = (evaluation_t){.loss = e->mixed.loss, .weight = e->mixed.weight, .tokens = e->mixed.tokens};
    return st;
}

static status_t measure(eval_t *e, comm_t *comm, evaluation_t *result) {
    int64_t longest = dataset_max_tokens(e->set) + dataset_virtual_tokens(e->set),
            capacity = longest > EVAL_TOKENS ? longest : EVAL_TOKENS;
    if (e->mixing != MIXTURE_NONE) return mix(e, comm, capacity, result);
    TRY(comm_agree(comm, evaluator_open(&e->loaded, e->set, PACKING_BEST_FIT, capacity, &e->evaluator)));
    return evaluator_run(&e->evaluator, comm, NULL, NULL, result);
}

static status_t evaluate(eval_t *e, comm_t *comm, evaluation_t *result) {
    TRY(comm_agree(comm, open_target(e)));
    TRY(comm_agree(comm, session_place(e->device, e->dtype, comm, &e->loaded, &e->where)));
    const dataset_source_t source = {e->data, 1.0};
    const dataload_t load = {.config = &e->settings,
                             .sources = &source,
                             .n_sources = 1,
                             .encoder = encoder_of_tokenizer(e->loaded.tokenizer),
                             .layout = &e->loaded.layout,
                             .label = e->conditions.label,
                             .condition = e->conditions.condition};
    TRY(dataload_open(comm, &load, &e->set));
    if (!e->ensemble) TRY(measure(e, comm, result));
    if (!e->no_exact_match && e->mixing == MIXTURE_NONE)
        TRY(comm_agree(comm, match_run(&e->loaded, e->set, comm, &e->match, &e->matches)));
    double sums[2] = {e->matches.right, e->matches.asked};
    TRY(comm_sum_f64(comm, sums, 2));
    e->matches = (match_result_t){sums[0], sums[1]};
    if (e->ensemble && !(e->matches.asked > 0))
        return st_raise(ST_INPUT, e->data, "has no prompts with completions, which an ensemble is judged by");
    return ST_OK;
}

static void print_ensemble(const eval_t *e) {
    printf("{\"ensemble\":\"%s\",\"labels\":%d,\"exact_match\":%.9g,\"sequences\":%lld}\n", e->ensemble,
           e->loaded.layout.field[e->match.field].n, e->matches.right / e->matches.asked,
           (long long)dataset_sequences(e->set));
}

static void print_posterior(const eval_t *e) {
    const virtual_field_t *f = &e->loaded.layout.field[e->field];
    json_t *posterior = json_object();
    for (int j = 0; posterior && j < f->n; j++)
        json_object_set_new(posterior, f->value[j], json_real(e->mixed.posterior[j]));
    printf(",\"mixture\":\"%s\",\"posterior\":", e->mixture);
    if (posterior) json_dumpf(posterior, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(posterior);
}

static void print_result(const eval_t *e, const evaluation_t *r) {
    printf("{\"loss\":%.9g,\"perplexity\":%.9g", r->loss, exp(r->loss));
    if (e->matches.asked > 0) printf(",\"exact_match\":%.9g", e->matches.right / e->matches.asked);
    if (e->mixing != MIXTURE_NONE) print_posterior(e);
    printf(",\"sequences\":%lld,\"tokens\":%lld,\"weight\":%.9g}\n", (long long)dataset_sequences(e->set),
           (long long)r->tokens, r->weight);
}

static status_t check_ensemble(eval_t *e) {
    TRY(mixture_find(e->mixture, &e->mixing));
    if (e->mixture && e->ensemble)
        return st_raise(ST_USAGE, "--mixture", "and --ensemble are two ways to use all labels; give one of them");
    if (!e->ensemble != !e->ensemble_field)
        return st_raise(ST_USAGE, "command line", "--ensemble and --ensemble-field are given together");
    if (!e->ensemble) return ST_OK;
    if (strcmp(e->ensemble, match_names[MATCH_MEAN]) && strcmp(e->ensemble, match_names[MATCH_VOTE]))
        return st_raise(ST_USAGE, "--ensemble", "'%s' is not known; mean and vote are", e->ensemble);
    if (e->no_exact_match)
        return st_raise(ST_USAGE, "--ensemble", "has no result but the exact match; remove --no-exact-match");
    return ST_OK;
}

static status_t body(comm_t *comm, int argc, char **argv) {
    eval_t e;
    memset(&e, 0, sizeof e);
    const option_row_t rows[] = {{"--data", OPTION_STRING, &e.data, 0, 0},
                                 {"--adapter", OPTION_LIST, &e.adapter, 0, 0},
                                 CONDITION_ROWS(&e.conditions),
                                 {"--condition-from-data", OPTION_FLAG, &e.conditions.from_data, 0, 0},
                                 {"--ensemble", OPTION_STRING, &e.ensemble, 0, 0},
                                 {"--ensemble-field", OPTION_STRING, &e.ensemble_field, 0, 0},
                                 {"--mixture", OPTION_STRING, &e.mixture, 0, 0},
                                 {"--max-seq-length", OPTION_INT, &e.max_seq_length, 2, 1 << 24},
                                 {"--no-exact-match", OPTION_FLAG, &e.no_exact_match, 0, 0},
                                 {"--device", OPTION_STRING, &e.device, 0, 0},
                                 {"--dtype", OPTION_STRING, &e.dtype, 0, 0},
                                 {NULL, OPTION_FLAG, NULL, 0, 0}};
    const char *usage = "graft eval RUN_OR_MODEL --data F [--adapter A ...] [--condition F=V ... | "
                        "--condition-from-data] [--template CONFIG] [--ensemble mean|vote --ensemble-field F | "
                        "--mixture uniform|posterior]";
    TRY(options_parse(argc, argv, rows, &e.target, 1, usage));
    TRY(session_check(e.dtype));
    if (!e.data) return st_raise(ST_USAGE, "command line", "--data is missing; usage: %s", usage);
    TRY(check_ensemble(&e));
    evaluation_t result;
    status_t st = evaluate(&e, comm, &result);
    if (st == ST_OK && comm_rank(comm) == 0) e.ensemble ? print_ensemble(&e) : print_result(&e, &result);
    if (e.evaluator.sequences) evaluator_close(&e.evaluator);
    free(e.mixed.posterior);
    dataset_close(e.set);
    conditions_release(&e.conditions);
    loaded_close(&e.loaded);
    compute_close(&e.where);
    config_release(&e.config);
    return st;
}

status_t cmd_eval(int argc, char **argv) {
    return session_run(body, argc, argv);
}
