#include "data/dataset_impl.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const packing_names[PACKING_COUNT] = {
    [PACKING_BEST_FIT] = "best-fit", [PACKING_WRAPPED] = "wrapped", [PACKING_NONE] = "none"};
static const char *const truncation_names[TRUNCATE_COUNT] = {
    [TRUNCATE_ERROR] = "error", [TRUNCATE_LEFT] = "left", [TRUNCATE_RIGHT] = "right"};

static int find_name(const char *const *names, int n, const char *name) {
    for (int i = 0; i < n; i++)
        if (strcmp(names[i], name) == 0) return i;
    return -1;
}

const char *packing_name(packing_t p) {
    return packing_names[p];
}
const char *truncation_name(truncation_t t) {
    return truncation_names[t];
}

bool packing_find(const char *name, packing_t *out) {
    int i = find_name(packing_names, PACKING_COUNT, name);
    if (i >= 0) *out = (packing_t)i;
    return i >= 0;
}

bool truncation_find(const char *name, truncation_t *out) {
    int i = find_name(truncation_names, TRUNCATE_COUNT, name);
    if (i >= 0) *out = (truncation_t)i;
    return i >= 0;
}

source_t *dataset_source_of(const dataset_t *d, int64_t example) {
    int lo = 0, hi = d->n_sources - 1; /* the last source that begins at or before the example */
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (d->sources[mid].first_example <= example)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &d->sources[lo];
}

status_t dataset_at(const dataset_t *d, int64_t example, status_t st) {
    if (st == ST_OK) return ST_OK;
    const source_t *s = dataset_source_of(d, example);
    return st_context(st, "%s:%lld", s->lines.path, (long long)jsonl_line(&s->lines, example - s->first_example));
}

/* A window of joined documents has parts of several examples, so it can have no label and no route. */
static status_t check_wrapped(const dataset_options_t *o) {
    if (o->packing != PACKING_WRAPPED) return ST_OK;
    if (o->layout && o->layout->n_field > 0)
        return st_raise(ST_USAGE, "data.packing",
                        "wrapped joins documents, but the field '%s' chooses virtual tokens for each; use best-fit",
                        o->layout->field[0].name);
    if (o->route_field)
        return st_raise(ST_USAGE, "data.packing",
                        "wrapped joins documents, but the field '%s' routes each on its own; use best-fit",
                        o->route_field);
    return ST_OK;
}

static status_t check_route(const dataset_options_t *o) {
    if (!o->route_field) return ST_OK;
    if (o->route && find_name(o->routes, o->n_routes, o->route) >= 0) return ST_OK;
    return st_raise(ST_USAGE, o->route_field, "the route '%s' is not among the %d that exist; name one of them",
                    o->route ? o->route : "", o->n_routes);
}

static status_t check_options(const dataset_options_t *o) {
    TRY(check_wrapped(o));
    TRY(check_route(o));
    if (o->n_sources < 1) return st_raise(ST_USAGE, "data", "no files; name at least one");
    if (o->max_seq_length < o->encoder.n_prefix + 2)
        return st_raise(ST_USAGE, "data.max_seq_length", "%d leaves no room to predict a token; use at least %d",
                        o->max_seq_length, o->encoder.n_prefix + 2);
    if ((o->append_eos || o->packing == PACKING_WRAPPED) && o->encoder.eos < 0)
        return st_raise(ST_INPUT, "data",
                        "the tokenizer names no EOS token; set append_eos to false and do not use "
                        "packing: wrapped");
    for (int i = 0; i < o->n_sources; i++)
        if (!isfinite(o->sources[i].weight) || o->sources[i].weight <= 0)
            return st_raise(ST_USAGE, o->sources[i].path, "weight %g; it must be a positive number",
                            o->sources[i].weight);
    return ST_OK;
}

static status_t open_source(dataset_t *d, const dataset_source_t *from, strbuf_t *line) {
    source_t *s = &d->sources[d->n_sources];
    TRY(jsonl_open(from->path, &s->lines));
    d->n_sources++;
    s->weight = from->weight;
    s->first_example = d->n;
    s->format = d->options.format;
    d->n += s->lines.n;
    if (s->format == FORMAT_AUTO) {
        status_t st = jsonl_read(&s->lines, 0, line);
        if (st != ST_OK) return st;
        TRY(dataset_at(d, s->first_example, render_detect(NULL, line->data, line->len, &s->format)));
    }
    if (d->options.packing == PACKING_WRAPPED && s->format != FORMAT_TEXT)
        return st_raise(ST_USAGE, s->lines.path, "packing: wrapped joins documents, but the format is %s; use best-fit",
                        data_format_name(s->format));
    if (data_format_is_chat(s->format) && d->options.chat_template == CHAT_NONE)
        return st_raise(ST_USAGE, s->lines.path,
                        "conversations need data.chat_template; set it to chatml, llama3 or alpaca");
    return ST_OK;
}

static status_t open_all(dataset_t *d, const dataset_options_t *o) {
    void *memory;
    TRY(buf_calloc(&memory, o->n_sources, sizeof *d->sources, "data sources"));
    d->sources = memory;
    strbuf_t line = {0};
    status_t st = ST_OK;
    for (int i = 0; i < o->n_sources && st == ST_OK; i++) st = open_source(d, &o->sources[i], &line);
    strbuf_release(&line);
    if (st != ST_OK) return st;
    TRY(buf_calloc(&memory, d->n, 2 * sizeof *d->lengths, "example lengths"));
    d->lengths = memory;
    for (int64_t i = 0; i < 2 * d->n; i++) d->lengths[i] = -1;
    return ST_OK;
}

status_t dataset_open(const dataset_options_t *o, dataset_t **out) {
    void *memory;
    TRY(check_options(o));
    TRY(buf_calloc(&memory, 1, sizeof(dataset_t), "data set"));
    dataset_t *d = memory;
    d->options = *o;
    d->options.sources = NULL;
    d->n_sequences = -1;
    d->room = o->max_seq_length - o->encoder.n_prefix;
    status_t st = open_all(d, o);
    if (st != ST_OK) {
        dataset_close(d);
        return st;
    }
    *out = d;
    return ST_OK;
}

void dataset_close(dataset_t *d) {
    if (!d) return;
    for (int i = 0; i < d->n_sources; i++) jsonl_close(&d->sources[i].lines);
    free(d->sources);
    free(d->lengths);
    free(d->start);
    free(d);
}

int64_t dataset_examples(const dataset_t *d) {
    return d->n;
}

void dataset_lengths(dataset_t *d, int32_t **lengths, int64_t *n) {
    *lengths = d->lengths;
    *n = 2 * d->n;
}

static status_t scan_example(dataset_t *d, int64_t i, dataset_scratch_t *scratch, sequence_t *cut) {
    bool takes;
    TRY(dataset_takes_route(d, i, scratch, &takes));
    if (!takes) {
        d->lengths[2 * i] = DATASET_OTHER_ROUTE;
        d->lengths[2 * i + 1] = 0;
        return ST_OK;
    }
    TRY(dataset_render(d, i, scratch));
    const sequence_t *s = &scratch->example;
    int64_t weighted = 0, tokens = s->ids.len;
    if (s->format != FORMAT_TEXT && d->options.truncation != TRUNCATE_ERROR) {
        TRY(dataset_truncate(d, s, cut));
        s = cut;
    }
    for (int64_t j = 0; j < s->ids.len; j++) weighted += s->weight[j] > 0;
    d->lengths[2 * i] = (int32_t)tokens;
    d->lengths[2 * i + 1] = (int32_t)weighted;
    return ST_OK;
}

/* The first failure in file order, whichever thread found it. */
typedef struct failure {
    int64_t example;
    status_t status;
    char message[2048];
} failure_t;

status_t dataset_scan(dataset_t *d, int64_t lo, int64_t hi) {
    if (lo < 0 || hi > d->n || lo > hi)
        return st_raise(ST_INTERNAL, "dataset_scan", "examples [%lld, %lld) of %lld", (long long)lo, (long long)hi,
                        (long long)d->n);
    failure_t failure = {.example = INT64_MAX};
#pragma omp parallel
    {
        dataset_scratch_t scratch = {0};
        sequence_t cut = {0};
#pragma omp for schedule(dynamic, 16)
        for (int64_t i = lo; i < hi; i++) {
            int64_t bad;
#pragma omp atomic read
            bad = failure.example;
            if (i > bad) continue;
            status_t st = scan_example(d, i, &scratch, &cut);
            if (st == ST_OK) continue;
#pragma omp critical(dataset_failure)
            if (i < failure.example) {
                snprintf(failure.message, sizeof failure.message, "%s", st_message());
                failure.status = st;
#pragma omp atomic write
                failure.example = i;
            }
        }
        dataset_scratch_release(&scratch);
        sequence_release(&cut);
    }
    return failure.example == INT64_MAX ? ST_OK : st_adopt(failure.status, failure.message);
}

static status_t check_example(const dataset_t *d, const source_t *s, int64_t i) {
    int32_t tokens = d->lengths[2 * i], weighted = d->lengths[2 * i + 1], limit = d->options.max_seq_length;
    if (tokens == DATASET_OTHER_ROUTE) return ST_OK;
    if (tokens < 0 || weighted < 0)
        return st_raise(ST_INTERNAL, "dataset_finish", "example %lld was not scanned", (long long)i);
    if (s->format != FORMAT_TEXT && d->options.truncation == TRUNCATE_ERROR && tokens > limit)
        return dataset_at(d, i,
                          st_raise(ST_INPUT, NULL,
                                   "the example has %d tokens, more than max_seq_length %d; shorten it, raise "
                                   "max_seq_length, or set data.truncation to left or right",
                                   tokens, limit));
    if (weighted == 0 && d->options.packing != PACKING_WRAPPED)
        return dataset_at(d, i,
                          st_raise(ST_INPUT, NULL, "the example has no token with a loss%s; remove it or give it a %s",
                                   tokens > limit ? " within max_seq_length" : "",
                                   s->format == FORMAT_TEXT         ? "longer text"
                                   : data_format_is_chat(s->format) ? "message of the assistant"
                                                                    : "completion"));
    return ST_OK;
}

/* Sequences (wrapped: stream tokens) that example i adds. */
static int64_t example_adds(const dataset_t *d, const source_t *s, int64_t i) {
    if (d->lengths[2 * i] == DATASET_OTHER_ROUTE) return 0;
    if (d->options.packing == PACKING_WRAPPED) return dataset_wrapped_tokens(d, i);
    if (s->format != FORMAT_TEXT) return 1;
    return dataset_pieces(d, (int64_t)d->lengths[2 * i] - d->options.encoder.n_prefix);
}

status_t dataset_finish(dataset_t *d) {
    void *memory;
    if (d->n_sequences >= 0) return ST_OK;
    for (int k = 0; k < d->n_sources; k++) {
        const source_t *s = &d->sources[k];
        for (int64_t i = s->first_example; i < s->first_example + s->lines.n; i++) TRY(check_example(d, s, i));
    }
    free(d->start);
    d->start = NULL;
    TRY(buf_calloc(&memory, d->n + 1, sizeof *d->start, "sequence table"));
    d->start = memory;
    int64_t total = 0;
    for (int k = 0; k < d->n_sources; k++) {
        source_t *s = &d->sources[k];
        int64_t end = s->first_example + s->lines.n;
        for (int64_t i = s->first_example; i < end; i++) d->start[i + 1] = d->start[i] + example_adds(d, s, i);
        int64_t added = d->start[end] - d->start[s->first_example];
        s->first_sequence = total;
        s->n_sequences = d->options.packing == PACKING_WRAPPED ? dataset_pieces(d, added) : added;
        if (s->n_sequences == 0 && !d->options.route_field)
            return st_raise(ST_INPUT, s->lines.path, "no token with a loss; give it longer documents");
        total += s->n_sequences;
    }
    if (total == 0)
        return st_raise(ST_INPUT, d->sources[0].lines.path,
                        "no example has '%s' in the field '%s'; add some or leave this route out", d->options.route,
                        d->options.route_field);
    d->n_sequences = total;
    for (int64_t i = 0; i < total; i++) {
        int32_t tokens = dataset_sequence_tokens(d, i);
        if (tokens > d->max_tokens) d->max_tokens = tokens;
    }
    return ST_OK;
}
