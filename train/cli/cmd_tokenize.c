/* graft tokenize MODEL [--decode] [--special] [--json]: lines in, ids out, or the other way round. */
#include <errno.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer.h"
#include "train/cli/cli.h"
#include "train/cli/session.h"

typedef struct job {
    const char *model;
    bool decode, special, json;
    tokenizer_t *tokenizer;
    i32buf_t ids;
    strbuf_t text;
} job_t;

static status_t parse_args(int argc, char **argv, job_t *job) {
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--decode"))
            job->decode = true;
        else if (!strcmp(argv[i], "--special"))
            job->special = true;
        else if (!strcmp(argv[i], "--json"))
            job->json = true;
        else if (argv[i][0] == '-' && argv[i][1])
            return st_raise(ST_USAGE, "tokenize", "unknown option '%s'; options are --decode, --special and --json",
                            argv[i]);
        else if (job->model)
            return st_raise(ST_USAGE, "tokenize", "two models, '%s' and '%s'; name one", job->model, argv[i]);
        else
            job->model = argv[i];
    }
    if (job->model) return ST_OK;
    return st_raise(ST_USAGE, "tokenize", "no model; say graft tokenize MODEL [--decode] [--special] [--json]");
}

static status_t encode(job_t *job, const char *text, size_t n) {
    i32buf_clear(&job->ids);
    TRY(tokenizer_encode(job->tokenizer, text, n, job->special, &job->ids));
    strbuf_clear(&job->text);
    TRY(strbuf_adds(&job->text, "["));
    for (int64_t i = 0; i < job->ids.len; i++) TRY(strbuf_addf(&job->text, i ? ", %d" : "%d", job->ids.data[i]));
    return strbuf_adds(&job->text, "]\n");
}

static status_t encode_json(job_t *job, const char *line, size_t n) {
    json_error_t error;
    json_t *v = json_loadb(line, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!v) return st_raise(ST_INPUT, "JSON", "%s; give one JSON string a line", error.text);
    status_t st = json_is_string(v) ? encode(job, json_string_value(v), json_string_length(v))
                                    : st_raise(ST_INPUT, "JSON", "not a string; give one JSON string a line");
    json_decref(v);
    return st;
}

static status_t read_ids(job_t *job, const json_t *list) {
    if (!json_is_array(list)) return st_raise(ST_INPUT, "JSON", "not an array; give one array of token ids a line");
    i32buf_clear(&job->ids);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *id = json_array_get(list, i);
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) > INT32_MAX)
            return st_raise(ST_INPUT, "JSON", "entry %zu is not a token id", i);
        TRY(i32buf_push(&job->ids, (int32_t)json_integer_value(id)));
    }
    return ST_OK;
}

/* Replaces job->text by itself as a JSON string. */
static status_t quote(job_t *job) {
    json_t *s = json_stringn(job->text.len ? job->text.data : "", job->text.len);
    char *quoted = s ? json_dumps(s, JSON_ENCODE_ANY) : NULL;
    json_decref(s);
    if (!quoted) return st_nomem("JSON text", job->text.len);
    strbuf_clear(&job->text);
    status_t st = strbuf_adds(&job->text, quoted);
    free(quoted);
    return st;
}

static status_t decode(job_t *job, const char *line, size_t n) {
    json_error_t error;
    json_t *list = json_loadb(line, n, 0, &error);
    if (!list) return st_raise(ST_INPUT, "JSON", "%s; give one array of token ids a line", error.text);
    status_t st = read_ids(job, list);
    json_decref(list);
    TRY(st);
    strbuf_clear(&job->text);
    TRY(tokenizer_decode(job->tokenizer, job->ids.data, job->ids.len, false, &job->text));
    if (job->json) TRY(quote(job));
    return strbuf_adds(&job->text, "\n");
}

static status_t work_line(job_t *job, const char *line, size_t n) {
    if (job->decode)
        TRY(decode(job, line, n));
    else if (job->json)
        TRY(encode_json(job, line, n));
    else
        TRY(encode(job, line, n));
    if (fwrite(job->text.data, 1, job->text.len, stdout) != job->text.len)
        return st_errno(ST_IO, "stdout", "write", errno);
    return ST_OK;
}

static status_t work(job_t *job) {
    char *line = NULL;
    size_t cap = 0;
    ssize_t n;
    status_t st = ST_OK;
    for (int64_t number = 1; st == ST_OK && (n = getdelim(&line, &cap, '\n', stdin)) >= 0; number++) {
        if (n && line[n - 1] == '\n') n--; /* a carriage return before it is text */
        st = work_line(job, line, (size_t)n);
        if (st != ST_OK && st != ST_IO && st != ST_NOSPACE) st = st_context(st, "stdin:%lld", (long long)number);
    }
    int failed = ferror(stdin), err = errno;
    free(line);
    TRY(st);
    if (failed) return st_errno(ST_INPUT, "stdin", "read", err);
    return fflush(stdout) == 0 ? ST_OK : st_errno(ST_IO, "stdout", "write", errno);
}

status_t cmd_tokenize(int argc, char **argv) {
    job_t job = {0};
    TRY(parse_args(argc, argv, &job));
    status_t st = session_tokenizer(job.model, &job.tokenizer);
    if (st == ST_OK) st = work(&job);
    tokenizer_close(job.tokenizer);
    i32buf_release(&job.ids);
    strbuf_release(&job.text);
    return st;
}
