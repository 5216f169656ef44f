#include "data/dataset_impl.h"
#include "data/json_line.h"
#include "data/label.h"
#include <stdlib.h>
#include <string.h>

void dataset_scratch_release(dataset_scratch_t *s) {
    strbuf_release(&s->line);
    sequence_release(&s->example);
    condition_tokens_release(&s->slots);
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
    return virtual_tokens(dataset_layout(d));
}
int dataset_sources(const dataset_t *d) {
    return d->n_parts;
}

void dataset_source_range(const dataset_t *d, int s, int64_t *first, int64_t *n, double *weight) {
    *first = d->parts[s].first_sequence;
    *n = d->parts[s].n_sequences;
    *weight = d->parts[s].weight;
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
    out->score = example->score;
    return ST_OK;
}

/* --- rendering --- */

static status_t find_route(const dataset_options_t *o, const json_t *object, bool *takes) {
    int32_t route;
    TRY(label_find(object, o->route_field, o->routes, o->n_routes, &route));
    if (route < 0) return label_refuse(object, o->route_field, o->routes, o->n_routes);
    *takes = strcmp(o->routes[route], o->route) == 0;
    return ST_OK;
}

/* Whether the data set has the example: of its route and within its filter. */
static status_t select_example(const dataset_options_t *o, const json_t *object, bool *takes) {
    bool known;
    *takes = true;
    if (o->route_field) TRY(find_route(o, object, takes));
    if (!*takes || !o->filter.field) return ST_OK;
    TRY(threshold_test(&o->filter, object, false, &known, takes));
    return known ? ST_OK
                 : st_raise(ST_INPUT, NULL, "missing field '%s', which data.filter needs; add it as a number",
                            o->filter.field);
}

/* What was learnt of the example when it was scanned still holds. */
static status_t check_unchanged(const dataset_t *d, int64_t example, const dataset_scratch_t *scratch) {
    const int32_t *item = dataset_items(d, example);
    bool document = d->options.condition && scratch->example.format == FORMAT_TEXT;
    int64_t slots = document ? scratch->slots.ids.len : 0;
    if (scratch->tokens > INT32_MAX || slots > INT32_MAX)
        return st_raise(ST_INPUT, NULL, "the line has more than 2^31 tokens; split it");
    bool same = item[ITEM_TOKENS] < 0 ||
                (item[ITEM_TOKENS] == scratch->tokens && (!d->options.condition || item[ITEM_SLOTS] == slots));
    if (same) return ST_OK;
    return st_raise(ST_INPUT, NULL, "the line changed while the file was in use; keep it unchanged during a run");
}

static status_t render(const dataset_t *d, int64_t example, const json_t *object, dataset_scratch_t *scratch) {
    const part_t *p = dataset_part_of(d, example);
    const dataset_options_t *o = &d->options;
    render_options_t how = {.format = o->format,
                            .chat_template = o->chat_template,
                            .train_on_inputs = o->train_on_inputs,
                            .append_eos = o->append_eos,
                            .layout = o->layout,
                            .label = o->label};
    if (o->condition) TRY(condition_render(o->condition, &o->encoder, object, &scratch->slots));
    if (o->condition && p->format != FORMAT_TEXT) {
        how.head = scratch->slots.ids.data;
        how.n_head = scratch->slots.ids.len;
    }
    TRY(source_render(&p->source, example - p->first_example, object, &o->encoder, &how, &scratch->example,
                      &scratch->tokens));
    if (scratch->example.format != p->format)
        return st_raise(ST_INPUT, NULL,
                        "the line has the format %s, but the file begins with %s; give each format its own file",
                        data_format_name(scratch->example.format), data_format_name(p->format));
    if (o->score_field) TRY(json_line_number(object, o->score_field, &scratch->example.score));
    return check_unchanged(d, example, scratch);
}

static status_t take_example(const dataset_t *d, int64_t example, dataset_scratch_t *scratch, bool *takes) {
    json_t *object = NULL;
    TRY(json_line_parse(scratch->line.data, scratch->line.len, &object));
    status_t st = takes ? select_example(&d->options, object, takes) : ST_OK;
    if (st == ST_OK && (!takes || *takes)) {
        st = render(d, example, object, scratch);
        if (st == ST_OK) scratch->cached = example + 1;
    }
    json_decref(object);
    return st;
}

status_t dataset_render(const dataset_t *d, int64_t example, dataset_scratch_t *scratch, bool *takes) {
    const part_t *p = dataset_part_of(d, example);
    if (scratch->cached == example + 1) {
        if (takes) *takes = true;
        return ST_OK;
    }
    scratch->cached = 0;
    TRY(source_text(&p->source, example - p->first_example, &scratch->line));
    return dataset_at(d, example, take_example(d, example, scratch, takes));
}

/* --- sequences --- */

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
    const part_t *part;
    int64_t example; /* that it is or that its piece is of; wrapped: in which the window begins */
    int64_t from;    /* first token of the body of that example */
    int64_t tokens;  /* of the body, of a whole example that is no document: with prefix, cut */
} place_t;

static const part_t *part_of_sequence(const dataset_t *d, int64_t sequence) {
    int lo = 0, hi = d->n_parts - 1;
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (d->parts[mid].first_sequence <= sequence)
            lo = mid;
        else
            hi = mid - 1;
    }
    return &d->parts[lo];
}

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

static place_t locate(const dataset_t *d, int64_t sequence) {
    const part_t *part = part_of_sequence(d, sequence);
    int64_t first = part->first_example, end = first + part->source.n, local = sequence - part->first_sequence;
    place_t p = {.part = part};
    if (d->options.packing == PACKING_WRAPPED) {
        int64_t room = dataset_wrapped_shape(d, 0).room, at = d->start[first] + local * room;
        p.example = find_start(d, first, end, at);
        p.from = at - d->start[p.example];
        p.tokens = least(d->start[end] - at, room);
        return p;
    }
    p.example = find_start(d, first, end, d->start[first] + local);
    if (part->format != FORMAT_TEXT) {
        p.tokens = least(dataset_items(d, p.example)[ITEM_TOKENS], d->options.max_seq_length);
        return p;
    }
    shape_t s = dataset_shape(d, p.example);
    p.from = (d->start[first] + local - d->start[p.example]) * s.room;
    p.tokens = least(s.body - p.from, s.room);
    return p;
}

/* Of the sequence at this place: a window's, or its document's. */
static shape_t shape_at(const dataset_t *d, const place_t *p) {
    return d->options.packing == PACKING_WRAPPED ? dataset_wrapped_shape(d, p->tokens) : dataset_shape(d, p->example);
}

int32_t dataset_sequence_tokens(const dataset_t *d, int64_t sequence) {
    place_t p = locate(d, sequence);
    if (p.part->format != FORMAT_TEXT) return (int32_t)p.tokens;
    return (int32_t)(d->options.encoder.n_prefix + shape_at(d, &p).slots + p.tokens);
}

int32_t dataset_sequence_loss_tokens(const dataset_t *d, int64_t sequence) {
    place_t p = locate(d, sequence);
    if (p.part->format != FORMAT_TEXT) return dataset_items(d, p.example)[ITEM_LOSS];
    shape_t s = shape_at(d, &p);
    return (int32_t)(dataset_document_loss(d) * (p.tokens - s.bare) + s.slot_loss);
}

/* Appends tokens [from, from + n) of the body of the example that was rendered last. */
static status_t add_body(const dataset_t *d, int64_t example, int64_t from, int64_t n, const dataset_scratch_t *scratch,
                         sequence_t *out) {
    const part_t *p = dataset_part_of(d, example);
    float w = (float)dataset_document_loss(d);
    return source_add_body(&p->source, example - p->first_example, &scratch->example, &d->options.encoder, from, n, w,
                           out);
}

/* Appends `n` tokens of the stream of joined documents. */
static status_t add_window(const dataset_t *d, place_t p, dataset_scratch_t *scratch, sequence_t *out) {
    const encoder_t *e = &d->options.encoder;
    int64_t left = p.tokens, from = p.from;
    for (int64_t i = p.example; left > 0; i++, from = 0) {
        if (d->start[i + 1] == d->start[i]) continue; /* left out */
        TRY(dataset_render(d, i, scratch, NULL));
        int64_t body = scratch->tokens - e->n_prefix, take = least(body - from, left);
        if (take > 0) {
            TRY(add_body(d, i, from, take, scratch, out));
            left -= take;
        }
        if (left > 0 && dataset_wrapped_tokens(d, i) > body) { /* joined by an EOS that is not the document's own */
            TRY(sequence_add(out, &e->eos, 1, 1.0f));
            left--;
        }
    }
    return ST_OK;
}

/* Appends a piece of a document and what stands around it. */
static status_t add_piece(const dataset_t *d, place_t p, int64_t draw, dataset_scratch_t *scratch, sequence_t *out) {
    const condition_t *c = d->options.condition;
    TRY(dataset_render(d, p.example, scratch, NULL));
    memcpy(out->label, scratch->example.label, sizeof out->label);
    out->score = scratch->example.score;
    if (c) TRY(condition_add_head(c, &scratch->slots, draw, out));
    out->n_prompt = out->ids.len;
    TRY(add_body(d, p.example, p.from, p.tokens, scratch, out));
    return c ? condition_add_tail(c, &scratch->slots, draw, out) : ST_OK;
}

status_t dataset_sequence(const dataset_t *d, int64_t sequence, int64_t draw, dataset_scratch_t *scratch,
                          sequence_t *out) {
    const encoder_t *e = &d->options.encoder;
    if (sequence < 0 || sequence >= d->n_sequences)
        return st_raise(ST_INTERNAL, "dataset_sequence", "sequence %lld of %lld", (long long)sequence,
                        (long long)d->n_sequences);
    place_t p = locate(d, sequence);
    if (p.part->format != FORMAT_TEXT) {
        TRY(dataset_render(d, p.example, scratch, NULL));
        return dataset_truncate(d, &scratch->example, out);
    }
    sequence_clear(out);
    TRY(sequence_add(out, e->prefix, e->n_prefix, 0.0f));
    out->n_prefix = out->n_prompt = e->n_prefix;
    out->format = FORMAT_TEXT;
    TRY(d->options.packing == PACKING_WRAPPED ? add_window(d, p, scratch, out) : add_piece(d, p, draw, scratch, out));
    out->weight[0] = 0.0f;
    return ST_OK;
}
