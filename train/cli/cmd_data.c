/* graft data build CONFIG_OR_FILES OUT.h5: a token store from JSONL files. Works under a launcher: shards are dealt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/store_build.h"
#include "data/token_store.h"
#include "data/tokenizer.h"
#include "train/cli/cli.h"
#include "train/cli/options.h"
#include "train/cli/session.h"
#include "train/config/config.h"
#include "train/run/registry.h"

#define USAGE "graft data build FILES... OUT.h5 --model MODEL [--text-field text], or graft data build CONFIG OUT.h5"

typedef struct job {
    const char **path; /* [n_paths]; of the command line, or of the configuration */
    int n_paths;
    const char *out, *model, *text_field;
    config_t config; /* owns the paths and the model of a configuration */
    tokenizer_t *tokenizer;
    store_build_t *build;
    int32_t *missing; /* [shards] 1: has to be built */
    int64_t shards, n_due;
    int64_t *due; /* [n_due] shards, ascending */
} job_t;

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), m = strlen(end);
    return n > m && strcmp(s + n - m, end) == 0;
}

/* --- what to build --------------------------------------------------------------------------------------------- */

/* Options go to the table of options, all of which take a value; the rest are paths, the last of them the output. */
static status_t parse_args(int argc, char **argv, job_t *job) {
    const option_row_t rows[] = {{"--model", OPTION_STRING, &job->model, 0, 0},
                                 {"--text-field", OPTION_STRING, &job->text_field, 0, 0},
                                 {NULL, OPTION_FLAG, NULL, 0, 0}};
    void *memory;
    int n_options = 1;
    TRY(buf_calloc(&memory, 2 * (int64_t)argc + 1, sizeof(char *), "arguments"));
    job->path = memory;
    char **options = (char **)memory + argc;
    for (int i = 2; i < argc; i++) {
        if (strncmp(argv[i], "--", 2)) {
            job->path[job->n_paths++] = argv[i];
            continue;
        }
        options[n_options++] = argv[i];
        if (!strchr(argv[i], '=') && i + 1 < argc) options[n_options++] = argv[++i];
    }
    TRY(options_parse(n_options, options, rows, NULL, 0, USAGE));
    if (job->n_paths < 2) return st_raise(ST_USAGE, "data build", "needs an input and an output; usage: " USAGE);
    job->out = job->path[--job->n_paths];
    /* a forgotten output must not cost the last input */
    if (!ends_with(job->out, ".h5")) return st_raise(ST_USAGE, job->out, "the output must be named .h5; usage: " USAGE);
    if (!job->text_field) job->text_field = "text";
    return *job->text_field ? ST_OK : st_raise(ST_USAGE, "--text-field", "is empty; name the field with the text");
}

static status_t read_config(job_t *job) {
    if (job->n_paths != 1)
        return st_raise(ST_USAGE, "data build", "a configuration names its files itself; usage: " USAGE);
    if (job->model) return st_raise(ST_USAGE, "--model", "the configuration names the model; leave one of them out");
    TRY(config_load(job->path[0], NULL, 0, registry_methods(), &job->config));
    const cfg_sources_t *train = &job->config.data.train;
    void *memory;
    TRY(buf_calloc(&memory, train->count, sizeof(char *), "arguments"));
    free(job->path);
    job->path = memory;
    job->n_paths = train->count;
    for (int i = 0; i < train->count; i++) job->path[i] = train->items[i].path;
    job->model = job->config.model.path;
    return ST_OK;
}

static status_t open_job(int argc, char **argv, job_t *job) {
    TRY(parse_args(argc, argv, job));
    if (ends_with(job->path[0], ".yaml") || ends_with(job->path[0], ".yml")) TRY(read_config(job));
    if (!job->model) return st_raise(ST_USAGE, "data build", "--model is missing: whose tokenizer? usage: " USAGE);
    for (int i = 0; i < job->n_paths; i++)
        if (token_store_recognise(job->path[i]))
            return st_raise(ST_INPUT, job->path[i], "is a token store already; name the JSONL files it is made from");
    TRY(session_tokenizer(job->model, &job->tokenizer));
    const store_build_options_t o = {.paths = job->path,
                                     .n_paths = job->n_paths,
                                     .out = job->out,
                                     .encoder = encoder_of_tokenizer(job->tokenizer),
                                     .vocabulary = tokenizer_vocab_size(job->tokenizer),
                                     .tokenizer_fingerprint = tokenizer_fingerprint(job->tokenizer),
                                     .tokenizer = job->model,
                                     .text_field = job->text_field};
    TRY(store_build_open(&o, &job->build));
    void *memory;
    job->shards = store_build_shards(job->build);
    TRY(buf_calloc(&memory, job->shards, sizeof *job->missing, "shards"));
    job->missing = memory;
    TRY(buf_calloc(&memory, job->shards, sizeof *job->due, "shards"));
    job->due = memory;
    return ST_OK;
}

static void close_job(job_t *job) {
    store_build_close(job->build);
    tokenizer_close(job->tokenizer);
    config_release(&job->config);
    free(job->path);
    free(job->missing);
    free(job->due);
}

/* --- building -------------------------------------------------------------------------------------------------- */

/* Every rank looks for its share of the parts; then all know which are missing. */
static status_t find_missing(comm_t *comm, job_t *job) {
    status_t st = ST_OK;
    for (int64_t i = comm_rank(comm); i < job->shards && st == ST_OK; i += comm_size(comm)) {
        bool there = false;
        st = store_build_find(job->build, i, &there);
        job->missing[i] = !there;
    }
    TRY(comm_agree(comm, st));
    TRY(comm_sum_i32(comm, job->missing, job->shards));
    for (int64_t i = 0; i < job->shards; i++)
        if (job->missing[i]) job->due[job->n_due++] = i;
    if (comm_rank(comm) == 0 && job->n_due < job->shards)
        fprintf(stderr, "graft: %lld of %lld shards are there already\n", (long long)(job->shards - job->n_due),
                (long long)job->shards);
    return ST_OK;
}

/* In rounds of one shard a rank: a failure ends the build after its round, and as the lowest rank's error is the one
 * that is told, it is that of the first bad line, whatever the number of ranks. */
static status_t build_missing(comm_t *comm, job_t *job) {
    for (int64_t first = 0; first < job->n_due; first += comm_size(comm)) {
        int64_t k = first + comm_rank(comm);
        TRY(comm_agree(comm, k < job->n_due ? store_build_shard(job->build, job->due[k]) : ST_OK));
    }
    return ST_OK;
}

static status_t report(const job_t *job) {
    token_store_t *s = NULL;
    TRY(token_store_open(job->out, &s));
    const token_store_info_t *info = token_store_info(s);
    printf("%s: %lld documents, %lld tokens, %lld bytes of metadata\n", job->out, (long long)info->documents,
           (long long)info->tokens, (long long)info->metadata_bytes);
    token_store_close(s);
    return ST_OK;
}

static status_t finish(const job_t *job) {
    TRY(store_build_join(job->build));
    store_build_clean(job->build);
    return report(job);
}

static status_t build(comm_t *comm, int argc, char **argv, job_t *job) {
    bool first = comm_rank(comm) == 0;
    TRY(comm_agree(comm, open_job(argc, argv, job)));
    TRY(comm_agree(comm, first ? store_build_prepare(job->build) : ST_OK));
    TRY(find_missing(comm, job));
    TRY(build_missing(comm, job));
    return comm_agree(comm, first ? finish(job) : ST_OK);
}

static status_t body(comm_t *comm, int argc, char **argv) {
    job_t job;
    memset(&job, 0, sizeof job);
    status_t st = build(comm, argc, argv, &job);
    close_job(&job);
    return st;
}

status_t cmd_data(int argc, char **argv) {
    if (argc < 2 || strcmp(argv[1], "build"))
        return st_raise(ST_USAGE, "data", "say what to do with data: build; usage: " USAGE);
    return session_run(body, argc, argv);
}
