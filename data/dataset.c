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

part_t *dataset_part_of(const dataset_t *d, int64_t example) {
    int lo = 0, hi = d->n_parts - 1; /* the last part that begins at or before the example */
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (d->parts[mid].first_example <= example)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &d->parts[lo];
}

int32_t *dataset_items(const dataset_t *d, int64_t example) {
    return d->lengths + example * d->items;
}

status_t dataset_at(const dataset_t *d, int64_t example, status_t st) {
    const part_t *p = dataset_part_of(d, example);
    return source_at(&p->source, example - p->first_example, st);
}

/* A window of joined documents has parts of several examples, so it can have no label, no route and no score. */
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
    if (o->score_field)
        return st_raise(ST_USAGE, "data.packing",
                        "wrapped joins documents, but the field '%s' judges each on its own; use best-fit",
                        o->score_field);
    if (o->condition)
        return st_raise(ST_USAGE, "data.packing",
                        "wrapped joins documents, but conditioning puts text around each of them; use best-fit");
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

/* What the settings exclude for files of this format. */
static status_t check_part(const dataset_t *d, const part_t *p) {
    const dataset_options_t *o = &d->options;
    const char *path = p->source.path, *format = data_format_name(p->format);
    if (o->packing == PACKING_WRAPPED && p->format != FORMAT_TEXT)
        return st_raise(ST_USAGE, path, "packing: wrapped joins documents, but the format is %s; use best-fit", format);
    if (o->condition && p->format != FORMAT_TEXT && !condition_given(o->condition))
        return st_raise(ST_USAGE, path, "conditioning is for documents, but the format is %s; remove the template",
                        format);
    if (data_format_is_chat(p->format) && o->chat_template == CHAT_NONE)
        return st_raise(ST_USAGE, path, "conversations need data.chat_template; set it to chatml, llama3 or alpaca");
    return ST_OK;
}

static status_t open_part(dataset_t *d, const dataset_source_t *from) {
    part_t *p = &d->parts[d->n_parts];
    TRY(source_open(from->path, &d->options.encoder, &p->source));
    d->n_parts++;
    p->weight = from->weight;
    p->first_example = d->n;
    d->n += p->source.n;
    TRY(source_format(&p->source, d->options.format, &p->format));
    return check_part(d, p);
}

static status_t open_all(dataset_t *d, const dataset_options_t *o) {
    void *memory;
    TRY(buf_calloc(&memory, o->n_sources, sizeof *d->parts, "data sources"));
    d->parts = memory;
    for (int i = 0; i < o->n_sources; i++) TRY(open_part(d, &o->sources[i]));
    d->items = o->condition ? ITEMS_MOST : ITEM_LOSS + 1;
    TRY(buf_calloc(&memory, d->n, (size_t)d->items * sizeof *d->lengths, "example lengths"));
    d->lengths = memory;
    for (int64_t i = 0; i < d->n * d->items; i++) d->lengths[i] = -1;
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
    for (int i = 0; i < d->n_parts; i++) source_close(&d->parts[i].source);
    free(d->parts);
    free(d->lengths);
    free(d->start);
    free(d);
}

int64_t dataset_examples(const dataset_t *d) {
    return d->n;
}

void dataset_lengths(dataset_t *d, int32_t **lengths, int64_t *n) {
    *lengths = d->lengths;
    *n = d->n * d->items;
}

/* Tokens with a loss of an example that is no document, cut as it will be. */
static status_t count_weighted(const dataset_t *d, const sequence_t *s, sequence_t *cut, int64_t *out) {
    if (d->options.truncation != TRUNCATE_ERROR) {
        TRY(dataset_truncate(d, s, cut));
        s = cut;
    }
    *out = 0;
    for (int64_t j = 0; j < s->ids.len; j++) *out += s->weight[j] > 0;
    return ST_OK;
}

/* A document as one sequence: everything but the very first token can have a loss. */
static void note_document(const dataset_t *d, const dataset_scratch_t *scratch, int32_t *item) {
    const condition_t *c = d->options.condition;
    bool prefix = d->options.encoder.n_prefix > 0;
    int64_t body = scratch->tokens - d->options.encoder.n_prefix, head = 0, slot_loss = 0;
    if (c) {
        head = condition_head(c, &scratch->slots);
        slot_loss =
            condition_loss(c, &scratch->slots) - (!prefix && head && condition_first_weighs(c, &scratch->slots));
        item[ITEM_SLOTS] = (int32_t)scratch->slots.ids.len;
        item[ITEM_SLOT_LOSS] = (int32_t)slot_loss;
    }
    item[ITEM_LOSS] = (int32_t)(dataset_document_loss(d) * (body - (!prefix && !head)) + slot_loss);
}

static status_t scan_example(dataset_t *d, int64_t i, dataset_scratch_t *scratch, sequence_t *cut) {
    bool takes;
    int32_t *item = dataset_items(d, i);
    TRY(dataset_render(d, i, scratch, &takes));
    for (int k = 0; k < d->items; k++) item[k] = 0;
    item[ITEM_TOKENS] = takes ? (int32_t)scratch->tokens : DATASET_LEFT_OUT;
    if (!takes) return ST_OK;
    int64_t weighted;
    if (scratch->example.format == FORMAT_TEXT) {
        note_document(d, scratch, item);
        return ST_OK;
    }
    TRY(count_weighted(d, &scratch->example, cut, &weighted));
    item[ITEM_LOSS] = (int32_t)weighted;
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
