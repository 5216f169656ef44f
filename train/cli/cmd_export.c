/* graft export CHECKPOINT --format FORMAT OUT [--method TYPE] [--condition F=V ...] [--model PATH]: one method of a
 * checkpoint as files that other programs load. */
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/cli/cli.h"
#include "train/cli/condition.h"
#include "train/cli/options.h"
#include "train/cli/session.h"
#include "train/export/export.h"
#include "train/run/loaded.h"

typedef struct job {
    const char *checkpoint, *out, *format, *model, *method;
    option_list_t condition;
} job_t;

static status_t parse_args(int argc, char **argv, job_t *job) {
    const option_row_t rows[] = {{"--format", OPTION_STRING, &job->format, 0, 0},
                                 {"--model", OPTION_STRING, &job->model, 0, 0},
                                 {"--method", OPTION_STRING, &job->method, 0, 0},
                                 {"--condition", OPTION_LIST, &job->condition, 0, 0},
                                 {NULL, OPTION_FLAG, NULL, 0, 0}};
    const char *usage =
        "graft export CHECKPOINT --format peft|merged-safetensors|prompt-embeddings|gguf-adapter OUT [--method "
        "TYPE] [--condition F=V ...] [--model PATH]";
    const char *path[2] = {NULL, NULL};
    TRY(options_parse(argc, argv, rows, path, 2, usage));
    job->checkpoint = path[0];
    job->out = path[1];
    if (!job->format) return st_raise(ST_USAGE, "command line", "--format is missing; usage: %s", usage);
    return ST_OK;
}

/* An earlier export may be replaced, but not by an export of itself. */
static status_t refuse_self(const char *in, const char *out) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!realpath(in, a) || !realpath(out, b) || strcmp(a, b)) return ST_OK;
    return st_raise(ST_USAGE, out, "is read for this export; name another directory to write");
}

static status_t open_source(const job_t *job, loaded_t *l) {
    TRY(refuse_self(job->checkpoint, job->out));
    if (job->model) return loaded_open(job->model, &job->checkpoint, 1, l);
    status_t st = loaded_open_adapter(job->checkpoint, l);
    return st == ST_OK ? st : st_context(st, "%s on its base (--model names another)", job->checkpoint);
}

/* "lora, prefix_tuning" */
static void list_methods(const loaded_t *l, char *out, size_t size) {
    size_t n = 0;
    for (int i = 0; i < l->n_method && n < size; i++)
        n += (size_t)snprintf(out + n, size - n, "%s%s", i ? ", " : "", l->method[i].method->section.type);
}

/* The method that is asked for; none needs to be where there is but one. */
static status_t choose_method(const job_t *job, const loaded_t *l, const loaded_method_t **out) {
    char known[256] = "";
    list_methods(l, known, sizeof known);
    *out = NULL;
    if (!job->method && l->n_method > 1)
        return st_raise(ST_USAGE, job->checkpoint, "holds several methods: %s; export one with --method TYPE", known);
    for (int i = 0; i < l->n_method; i++)
        if (!job->method || !strcmp(job->method, l->method[i].method->section.type)) *out = &l->method[i];
    return *out
               ? ST_OK
               : st_raise(ST_USAGE, "--method", "'%s' is not in %s; it holds: %s", job->method, job->checkpoint, known);
}

static status_t write_one(const job_t *job, const export_format_t *format, loaded_t *l) {
    const loaded_method_t *m;
    int32_t label[VIRTUAL_MAX_FIELDS];
    TRY(choose_method(job, l, &m));
    TRY(condition_labels(&job->condition, &l->layout, label));
    export_source_t source = {.weights = l->weights,
                              .config = l->config,
                              .tokenizer_dir = l->tokenizer_dir,
                              .tokenizer = l->tokenizer,
                              .special = (const char *const *)l->special.text,
                              .n_special = l->special.n,
                              .model = &l->model,
                              .method = m->method,
                              .method_self = m->self,
                              .first_param = m->first_param,
                              .last_param = m->last_param,
                              .choice = {.layout = &l->layout, .label = label}};
    return export_run(format, &source, job->out, stdout);
}

static status_t export(const job_t *job, const export_format_t *format, loaded_t *l) {
    TRY(open_source(job, l));
    TRY(refuse_self(l->model.path, job->out));
    if (l->tokenizer_dir) TRY(refuse_self(l->tokenizer_dir, job->out));
    return write_one(job, format, l);
}

/* Under a launcher rank 0 does the work. */
static status_t body(comm_t *comm, int argc, char **argv) {
    job_t job = {0};
    const export_format_t *format = NULL;
    TRY(parse_args(argc, argv, &job));
    TRY(export_format_find(job.format, &format));
    if (comm_rank(comm)) return ST_OK;
    loaded_t loaded = {0};
    status_t st = export(&job, format, &loaded);
    loaded_close(&loaded);
    return st;
}

status_t cmd_export(int argc, char **argv) {
    return session_run(body, argc, argv);
}
