/* What dataset.c, dataset_sequence.c and dataset_table.c share; nobody else includes it. */
#pragma once
#include "data/dataset.h"
#include "data/source.h"

/* One file of the data set. */
typedef struct part {
    source_t source;
    data_format_t format; /* of all its examples */
    double weight;
    int64_t first_example;
    int64_t first_sequence, n_sequences;
} part_t;

/* What is known of an example, in `lengths`. */
enum {
    ITEM_TOKENS,    /* with prefix and EOS, before cutting, without slots; or one of the values below */
    ITEM_LOSS,      /* tokens with a loss of the example as one sequence */
    ITEM_SLOTS,     /* tokens of its slots; this and the next one with a template alone */
    ITEM_SLOT_LOSS, /* of these, tokens with a loss */
    ITEMS_MOST
};
enum { DATASET_LEFT_OUT = -2 }; /* tokens of an example of another route, or beyond the filter */

struct dataset {
    dataset_options_t options; /* `sources` is not kept */
    part_t *parts;
    int n_parts;
    int64_t n;        /* examples */
    int items;        /* of an example */
    int32_t *lengths; /* [n * items] */
    /* [n+1]: sequences before an example; with PACKING_WRAPPED tokens before it, prefixes not counted */
    int64_t *start;
    int64_t n_sequences; /* -1 before dataset_finish */
    int32_t max_tokens;
};

/* How a document becomes pieces. */
typedef struct shape {
    int64_t body;      /* tokens that are cut, EOS included */
    int64_t slots;     /* tokens that stand around every piece */
    int64_t slot_loss; /* of these, tokens with a loss */
    int64_t bare;      /* 1: nothing stands before a piece, so its first token has no loss */
    int64_t room;      /* most tokens of a piece */
    int64_t least;     /* tokens that a piece must have so that something is predicted */
} shape_t;

part_t *dataset_part_of(const dataset_t *d, int64_t example);
/* The known items of an example. */
int32_t *dataset_items(const dataset_t *d, int64_t example);
shape_t dataset_shape(const dataset_t *d, int64_t example);      /* of a document that is not left out */
shape_t dataset_wrapped_shape(const dataset_t *d, int64_t body); /* of the stream of joined documents */
/* Pieces of a document (windows of a stream). */
int64_t dataset_pieces(const shape_t *s);
/* Whether documents have a loss at all: 1 or 0. */
int64_t dataset_document_loss(const dataset_t *d);

/* Renders an example as a whole, before cutting, into the scratch; the message names its place. With `takes` it is told
 * whether the data set has the example, and rendered only then. */
status_t dataset_render(const dataset_t *d, int64_t example, dataset_scratch_t *scratch, bool *takes);
/* Puts the example's place in front of the message. */
status_t dataset_at(const dataset_t *d, int64_t example, status_t st);
/* Replaces `out` by the example cut to max_seq_length as `truncation` says. */
status_t dataset_truncate(const dataset_t *d, const sequence_t *example, sequence_t *out);
/* Tokens that a document puts into the wrapped stream, with the EOS that joins it to the next one. */
int64_t dataset_wrapped_tokens(const dataset_t *d, int64_t example);
