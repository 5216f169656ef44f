#include "data/dataset_impl.h"
#include "data/json_line.h"
#include "data/label.h"
#include <stdlib.h>
#include <string.h>

void dataset_scratch_release(dataset_scratch_t *s) {
    strbuf_release(&s->line);
    sequence_release(&s->example);
    s->cached = 0;
}

int64_t dataset_sequences(const dataset_t *d) {
    return d->n_sequences;
}
int32_t dataset_max_tokens(const dataset_t *d) {
    return d->max_tokens;
}
const virtual_layout_t *dataset_layout(const dataset_t *d) {
    static const virtual_layout_t none = {0};
    return d->options.layout ? d->options.layout : &none;
}
int32_t dataset_virtual_tokens(const dataset_t *d) {
    return virtual_slots(dataset_layout(d)) + virtual_prefix(dataset_layout(d));
}
int dataset_sources(const dataset_t *d) {
    return d->n_sources;
}

void dataset_source_range(const dataset_t *d, int s, int64_t *first, int64_t *n, double *weight) {
    *first = d->sources[s].first_sequence;
    *n = d->sources[s].n_sequences;
    *weight = d->sources[s].weight;
}

int64_t dataset_pieces(const dataset_t *d, int64_t body) {
    int64_t full = body / d->room, rest = body % d->room;
    int64_t alone = d->options.encoder.n_prefix ? 0 : 1; /* without a prefix a single token predicts nothing */
    return full + (rest > alone);
}

int64_t dataset_wrapped_tokens(const dataset_t *d, int64_t example) {
    const source_t *s = dataset_source_of(d, example);
    bool last = example + 1 == s->first_example + s->lines.n;
    return d->lengths[2 * example] - d->options.encoder.n_prefix + (!d->options.append_eos && !last);
}

status_t dataset_truncate(const dataset_t *d, const sequence_t *example, sequence_t *out) {
    int64_t n = example->ids.len, limit = d->options.max_seq_length, kept = 0, from = 0;
    sequence_clear(out);
    if (n == 0) return ST_OK;
    if (n > limit) {
        kept = d->options.truncation == TRUNCATE_LEFT ? example->n_prefix : 0; /* of the front, before the gap */
        from = d->options.truncation == TRUNCATE_LEFT ? n - (limit - kept) : 0;
        n = limit - kept + from;
    }
    TRY(i32buf_add(&out->ids, example->ids.data, kept));
    TRY(i32buf_add(&out->ids, example->ids.data + from, n - from));
    TRY(sequence_weigh(out, 0, 0.0f));
    memcpy(out->weight, example->weight, (size_t)kept * sizeof *out->weight);
    memcpy(out->weight + kept, example->weight + from, (size_t)(n - from) * sizeof *out->weight);
    out->weight[0] = 0.0f;
    int64_t prompt = example->n_prompt - (from - kept);
    out->n_prefix = example->n_prefix;
    out->n_prompt = prompt < out->n_prefix ? out->n_prefix : prompt > out->ids.len ? out->ids.len : prompt;
    out->format = example->format;
    memcpy(out->label, example->label, sizeof out->label);
    return ST_OK;
}

static status_t render(const dataset_t *d, int64_t example, dataset_scratch_t *scratch) {
    const source_t *s = dataset_source_of(d, example);
    const dataset_options_t *o = &d->options;
    render_options_t how = {.format = o->format,
                            .chat_template = o->chat_template,
                            .train_on_inputs = o->train_on_inputs,
                            .append_eos = o->append_eos,
                            .layout = o->layout,
                            .label = o->label};
    TRY(render_example(&o->encoder, &how, NULL, scratch->line.data, scratch->line.len, &scratch->example));
    if (scratch->example.format != s->format)
        return st_raise(ST_INPUT, NULL,
                        "the line has the format %s, but the file begins with %s; give each format its own file",
                        data_format_name(scratch->example.format), data_format_name(s->format));
    if (scratch->example.ids.len > INT32_MAX)
        return st_raise(ST_INPUT, NULL, "the line has more than 2^31 tokens; split it");
    int32_t known = d->lengths[2 * example];
    if (known >= 0 && known != scratch->example.ids.len)
        return st_raise(ST_INPUT, NULL, "the line changed while the file was in use; keep it unchanged during a run");
    return ST_OK;
}

status_t dataset_render(const dataset_t *d, int64_t example, dataset_scratch_t *scratch) {
    const source_t *s = dataset_source_of(d, example);
    if (scratch->cached == example + 1) return ST_OK;
    scratch->cached = 0;
    TRY(jsonl_read(&s->lines, example - s->first_example, &scratch->line));
    TRY(dataset_at(d, example, render(d, example, scratch)));
    scratch->cached = example + 1;
    return ST_OK;
}

static status_t find_route(const dataset_options_t *o, const strbuf_t *text, int32_t *route) {
    json_t *line = NULL;
    TRY(json_line_parse(text->data, text->len, &line));
    status_t st = label_find(line, o->route_field, o->routes, o->n_routes, route);
    if (st == ST_OK && *route < 0) st = label_refuse(line, o->route_field, o->routes, o->n_routes);
    json_decref(line);
    return st;
}

status_t dataset_takes_route(const dataset_t *d, int64_t example, dataset_scratch_t *scratch, bool *takes) {
    const source_t *s = dataset_source_of(d, example);
    int32_t route;
    *takes = true;
    if (!d->options.route_field) return ST_OK;
    TRY(jsonl_read(&s->lines, example - s->first_example, &scratch->line));
    TRY(dataset_at(d, example, find_route(&d->options, &scratch->line, &route)));
    *takes = strcmp(d->options.routes[route], d->options.route) == 0;
    return ST_OK;
}

/* The last i in [lo, hi) with start[i] <= value; examples that add nothing are passed over. */
static int64_t find_start(const dataset_t *d, int64_t lo, int64_t hi, int64_t value) {
    while (hi - lo > 1) {
        int64_t mid = lo + (hi - lo) / 2;
        if (d->start[mid] <= value)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

/* Where a sequence's tokens stand. */
typedef struct place {
    const source_t *source;
    int64_t example; /* that it is or that its piece is of; wrapped: in which the window begins */
    int64_t from;    /* first token of the body of that example */
    int64_t tokens;  /* of the body, of a whole example that is no document: with prefix, cut */
} place_t;

static place_t locate(const dataset_t *d, int64_t sequence) {
    int lo = 0, hi = d->n_sources - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (d->sources[mid].first_sequence <= sequence)
            lo = mid;
        else
            hi = mid - 1;
    }
    const source_t *s = &d->sources[lo];
    int64_t first = s->first_example, end = first + s->lines.n, local = sequence - s->first_sequence;
    place_t p = {.source = s};
    if (d->options.packing == PACKING_WRAPPED) {
        int64_t at = d->start[first] + local * d->room, left = d->start[end] - at;
        p.example = find_start(d, first, end, at);
        p.from = at - d->start[p.example];
        p.tokens = left < d->room ? left : d->room;
        return p;
    }
    p.example = find_start(d, first, end, d->start[first] + local);
    int64_t tokens = d->lengths[2 * p.example];
    if (s->format != FORMAT_TEXT) {
        p.tokens = tokens < d->options.max_seq_length ? tokens : d->options.max_seq_length;
        return p;
    }
    p.from = (d->start[first] + local - d->start[p.example]) * d->room;
    int64_t left = tokens - d->options.encoder.n_prefix - p.from;
    p.tokens = left < d->room ? left : d->room;
    return p;
}

int32_t dataset_sequence_tokens(const dataset_t *d, int64_t sequence) {
    place_t p = locate(d, sequence);
    return (int32_t)(p.tokens + (p.source->format == FORMAT_TEXT ? d->options.encoder.n_prefix : 0));
}

int32_t dataset_sequence_loss_tokens(const dataset_t *d, int64_t sequence) {
    place_t p = locate(d, sequence);
    if (p.source->format != FORMAT_TEXT) return d->lengths[2 * p.example + 1];
    return (int32_t)(p.tokens - (d->options.encoder.n_prefix == 0));
}

/* Appends `n` tokens of the stream of joined documents. */
static status_t add_window(const dataset_t *d, place_t p, dataset_scratch_t *scratch, sequence_t *out) {
    const encoder_t *e = &d->options.encoder;
    int64_t left = p.tokens, from = p.from;
    for (int64_t i = p.example; left > 0; i++, from = 0) {
        TRY(dataset_render(d, i, scratch));
        int64_t body = scratch->example.ids.len - e->n_prefix, take = body - from < left ? body - from : left;
        if (take > 0) {
            TRY(sequence_add(out, scratch->example.ids.data + e->n_prefix + from, take, 1.0f));
            left -= take;
        }
        if (left > 0 && dataset_wrapped_tokens(d, i) > body) { /* joined by an EOS that is not the document's own */
            TRY(sequence_add(out, &e->eos, 1, 1.0f));
            left--;
        }
    }
    return ST_OK;
}

status_t dataset_sequence(const dataset_t *d, int64_t sequence, dataset_scratch_t *scratch, sequence_t *out) {
    const encoder_t *e = &d->options.encoder;
    if (sequence < 0 || sequence >= d->n_sequences)
        return st_raise(ST_INTERNAL, "dataset_sequence", "sequence %lld of %lld", (long long)sequence,
                        (long long)d->n_sequences);
    place_t p = locate(d, sequence);
    if (p.source->format != FORMAT_TEXT) {
        TRY(dataset_render(d, p.example, scratch));
        return dataset_truncate(d, &scratch->example, out);
    }
    sequence_clear(out);
    TRY(sequence_add(out, e->prefix, e->n_prefix, 0.0f));
    out->n_prefix = out->n_prompt = e->n_prefix;
    out->format = FORMAT_TEXT;
    if (d->options.packing == PACKING_WRAPPED) {
        TRY(add_window(d, p, scratch, out));
    } else {
        TRY(dataset_render(d, p.example, scratch));
        TRY(sequence_add(out, scratch->example.ids.data + e->n_prefix + p.from, p.tokens, 1.0f));
        memcpy(out->label, scratch->example.label, sizeof out->label);
    }
    out->weight[0] = 0.0f;
    return ST_OK;
}
