#include "data/dataset_impl.h"
#include <stdlib.h>

/* From the lengths of examples to the table of sequences. */

int64_t dataset_document_loss(const dataset_t *d) {
    return !d->options.condition || condition_document_weight(d->options.condition) > 0;
}

shape_t dataset_wrapped_shape(const dataset_t *d, int64_t body) {
    int64_t prefix = d->options.encoder.n_prefix;
    return (shape_t){.body = body, .bare = !prefix, .room = d->options.max_seq_length - prefix, .least = 1 + !prefix};
}

shape_t dataset_shape(const dataset_t *d, int64_t example) {
    const int32_t *item = dataset_items(d, example);
    shape_t s = dataset_wrapped_shape(d, item[ITEM_TOKENS] - d->options.encoder.n_prefix);
    if (!d->options.condition) return s;
    s.slots = item[ITEM_SLOTS];
    s.slot_loss = item[ITEM_SLOT_LOSS];
    s.room -= s.slots;
    s.bare = item[ITEM_LOSS] - s.slot_loss < dataset_document_loss(d) * s.body;
    s.least = 1 + (s.bare && !s.slot_loss);
    return s;
}

int64_t dataset_pieces(const shape_t *s) {
    return s->body / s->room + (s->body % s->room >= s->least);
}

int64_t dataset_wrapped_tokens(const dataset_t *d, int64_t example) {
    const part_t *p = dataset_part_of(d, example);
    int32_t tokens = dataset_items(d, example)[ITEM_TOKENS];
    bool last = example + 1 == p->first_example + p->source.n;
    if (tokens == DATASET_LEFT_OUT) return 0;
    return tokens - d->options.encoder.n_prefix + (!d->options.append_eos && !last);
}

static status_t check_length(const dataset_t *d, int32_t tokens) {
    int32_t limit = d->options.max_seq_length;
    if (d->options.truncation != TRUNCATE_ERROR || tokens <= limit) return ST_OK;
    return st_raise(ST_INPUT, NULL,
                    "the example has %d tokens, more than max_seq_length %d; shorten it, raise max_seq_length, or set "
                    "data.truncation to left or right",
                    tokens, limit);
}

static status_t check_room(const dataset_t *d, int64_t example) {
    shape_t s = dataset_shape(d, example);
    if (s.room >= s.least) return ST_OK;
    return st_raise(ST_INPUT, NULL,
                    "the conditioning takes %lld tokens and leaves no room for the document within max_seq_length %d; "
                    "shorten it or raise max_seq_length",
                    (long long)s.slots, d->options.max_seq_length);
}

static status_t check_example(const dataset_t *d, const part_t *p, int64_t i) {
    const int32_t *item = dataset_items(d, i);
    if (item[ITEM_TOKENS] == DATASET_LEFT_OUT) return ST_OK;
    for (int k = 0; k < d->items; k++)
        if (item[k] < 0) return st_raise(ST_INTERNAL, "dataset_finish", "example %lld was not scanned", (long long)i);
    TRY(dataset_at(d, i, p->format == FORMAT_TEXT ? check_room(d, i) : check_length(d, item[ITEM_TOKENS])));
    if (item[ITEM_LOSS] > 0 || d->options.packing == PACKING_WRAPPED) return ST_OK;
    return dataset_at(d, i,
                      st_raise(ST_INPUT, NULL, "the example has no token with a loss%s; remove it or give it a %s",
                               item[ITEM_TOKENS] > d->options.max_seq_length ? " within max_seq_length" : "",
                               p->format == FORMAT_TEXT         ? "longer text"
                               : data_format_is_chat(p->format) ? "message of the assistant"
                                                                : "completion"));
}

/* Sequences (wrapped: stream tokens) that example i adds. */
static int64_t example_adds(const dataset_t *d, const part_t *p, int64_t i) {
    if (dataset_items(d, i)[ITEM_TOKENS] == DATASET_LEFT_OUT) return 0;
    if (d->options.packing == PACKING_WRAPPED) return dataset_wrapped_tokens(d, i);
    if (p->format != FORMAT_TEXT) return 1;
    shape_t s = dataset_shape(d, i);
    return dataset_pieces(&s);
}

/* Why a data set, or a file of it, has no sequence. */
static status_t refuse_empty(const dataset_t *d, const part_t *p) {
    const dataset_options_t *o = &d->options;
    if (o->route_field)
        return st_raise(ST_INPUT, p->source.path,
                        "no example has '%s' in the field '%s'; add some or leave this route out", o->route,
                        o->route_field);
    if (o->filter.field)
        return st_raise(ST_INPUT, p->source.path, "no example has a '%s' of at %s %.15g; change data.filter",
                        o->filter.field, o->filter.at_least ? "least" : "most", o->filter.limit);
    return st_raise(ST_INPUT, p->source.path, "no token with a loss; give it longer documents");
}

static status_t count_part(dataset_t *d, part_t *p, int64_t first_sequence) {
    int64_t begin = p->first_example, end = begin + p->source.n;
    for (int64_t i = begin; i < end; i++) d->start[i + 1] = d->start[i] + example_adds(d, p, i);
    int64_t added = d->start[end] - d->start[begin];
    shape_t stream = dataset_wrapped_shape(d, added);
    p->first_sequence = first_sequence;
    p->n_sequences = d->options.packing == PACKING_WRAPPED ? dataset_pieces(&stream) : added;
    bool may_be_empty = d->options.route_field || d->options.filter.field;
    return p->n_sequences == 0 && !may_be_empty ? refuse_empty(d, p) : ST_OK;
}

status_t dataset_finish(dataset_t *d) {
    void *memory;
    if (d->n_sequences >= 0) return ST_OK;
    for (int k = 0; k < d->n_parts; k++) {
        const part_t *p = &d->parts[k];
        for (int64_t i = p->first_example; i < p->first_example + p->source.n; i++) TRY(check_example(d, p, i));
    }
    free(d->start);
    d->start = NULL;
    TRY(buf_calloc(&memory, d->n + 1, sizeof *d->start, "sequence table"));
    d->start = memory;
    int64_t total = 0;
    for (int k = 0; k < d->n_parts; k++) {
        TRY(count_part(d, &d->parts[k], total));
        total += d->parts[k].n_sequences;
    }
    if (total == 0) return refuse_empty(d, &d->parts[0]);
    d->n_sequences = total;
    for (int64_t i = 0; i < total; i++) {
        int32_t tokens = dataset_sequence_tokens(d, i);
        if (tokens > d->max_tokens) d->max_tokens = tokens;
    }
    return ST_OK;
}
