/* graft export CHECKPOINT --format FORMAT OUT [--model PATH] */
#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include "train/cli/cli.h"
#include "train/export/export.h"
#include "train/run/loaded.h"

typedef struct job {
    const char *checkpoint, *out, *format, *model;
} job_t;

static const char help[] = "say graft export CHECKPOINT --format peft|merged-safetensors OUT [--model PATH]";

static status_t parse_args(int argc, char **argv, job_t *job) {
    for (int i = 1; i < argc; i++) {
        const char **value = !strcmp(argv[i], "--format")  ? &job->format
                             : !strcmp(argv[i], "--model") ? &job->model
                                                           : NULL;
        if (value) {
            if (*value) return st_raise(ST_USAGE, "export", "%s is given twice; give it once", argv[i]);
            if (i + 1 == argc) return st_raise(ST_USAGE, "export", "%s needs a value; %s", argv[i], help);
            *value = argv[++i];
        } else if (argv[i][0] == '-' && argv[i][1]) {
            return st_raise(ST_USAGE, "export", "unknown option '%s'; options are --format and --model", argv[i]);
        } else if (!job->checkpoint) {
            job->checkpoint = argv[i];
        } else if (!job->out) {
            job->out = argv[i];
        } else {
            return st_raise(ST_USAGE, "export", "'%s' is one argument too many; %s", argv[i], help);
        }
    }
    if (!job->checkpoint || !job->out || !job->format)
        return st_raise(ST_USAGE, "export", "no %s; %s",
                        !job->checkpoint ? "checkpoint"
                        : !job->out      ? "directory to write"
                                         : "format",
                        help);
    return ST_OK;
}

/* An earlier export may be replaced, but not by an export of itself. */
static status_t refuse_self(const char *in, const char *out) {
    char a[PATH_MAX], b[PATH_MAX];
    if (!realpath(in, a) || !realpath(out, b) || strcmp(a, b)) return ST_OK;
    return st_raise(ST_USAGE, out, "is what is exported; name another directory");
}

static status_t find_base(const job_t *job, char **base) {
    adapter_t *a = NULL;
    TRY(adapter_open(job->checkpoint, &a));
    const char *path = job->model ? job->model : adapter_base_path(a);
    status_t st = ST_OK;
    if (path) {
        *base = buf_strdup(path);
        if (!*base) st = ST_NOMEM;
    } else {
        st =
            st_raise(ST_USAGE, job->checkpoint, "does not say which base it was trained on; name it with --model PATH");
    }
    adapter_close(a);
    return st;
}

static status_t export(const job_t *job, const export_format_t *format, const char *base) {
    TRY(refuse_self(job->checkpoint, job->out));
    TRY(refuse_self(base, job->out));
    loaded_t loaded = {0};
    status_t st = loaded_open(base, job->checkpoint, &loaded);
    if (st == ST_OK) {
        export_source_t source = {loaded.weights, &loaded.model, loaded.method, loaded.method_self};
        st = export_run(format, &source, job->out, stdout);
    } else if (!job->model) {
        st = st_context(st, "base of %s (another place is named with --model)", job->checkpoint);
    }
    loaded_close(&loaded);
    return st;
}

status_t cmd_export(int argc, char **argv) {
    job_t job = {0};
    const export_format_t *format = NULL;
    TRY(parse_args(argc, argv, &job));
    TRY(export_format_find(job.format, &format));
    char *base = NULL;
    status_t st = find_base(&job, &base);
    if (st == ST_OK) st = export(&job, format, base);
    free(base);
    return st;
}
