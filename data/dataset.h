/* A data set: files -> examples -> sequences of at most max_seq_length tokens (docs of the rules: interface.md
 * 5).
 *
 * Opening takes four moves, so that ranks can share the work of tokenising:
 *   dataset_open     indexes the files                                       every rank, *local*
 *   dataset_scan     tokenises examples [lo, hi) to learn their lengths      each rank its share, *local*, OpenMP
 *   (the caller exchanges the array of dataset_lengths between the ranks)
 *   dataset_finish   checks the lengths and builds the table of sequences    every rank, *local*, same result
 * everywhere
 * Then sequences are rendered and tokenised on demand. Memory is about 28 bytes an example, 36 with a template; text
 * and tokens are not kept. The data set is read-only after dataset_finish and dataset_sequence is thread-safe.
 *
 * Sequences: an example is one sequence; a document longer than max_seq_length becomes pieces, each of which begins
 * with the tokenizer's prefix; with PACKING_WRAPPED the documents of a file are joined by EOS and cut into windows,
 * each of which begins with the prefix, too, and the last of which may be shorter. A last piece or window in which
 * nothing is predicted (a single token) is left out.
 *
 * With a template (data/condition.h) every piece of a document carries the document's slots: prefix | slots before |
 * piece | slots behind, at most max_seq_length tokens together. Lengths are those with all slots; a sequence in which
 * some are dropped is shorter. EOS belongs to the body: it ends the last piece. Files may be token stores
 * (data/token_store.h) as well as JSONL: fields are then read from the metadata.
 *
 * Virtual tokens are no part of a sequence here: it has the labels that choose them, read from the fields that the
 * layout names, and keeps them when it is cut. A window has no labels, no route and no score, so PACKING_WRAPPED
 * excludes them.
 *
 * Errors are ST_INPUT and name `path:line` (a document of a token store: `path:document i`); of several bad examples,
 * the first in file order is named. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "data/condition.h"
#include "data/render.h"

typedef enum packing { PACKING_BEST_FIT, PACKING_WRAPPED, PACKING_NONE, PACKING_COUNT } packing_t;
typedef enum truncation { TRUNCATE_ERROR, TRUNCATE_LEFT, TRUNCATE_RIGHT, TRUNCATE_COUNT } truncation_t;

const char *packing_name(packing_t p); /* "best-fit" ... as in a configuration */
bool packing_find(const char *name, packing_t *out);
const char *truncation_name(truncation_t t);
bool truncation_find(const char *name, truncation_t *out);

typedef struct dataset_source {
    const char *path;
    double weight; /* share of the source's sequences in an epoch: 1 = each once; used by data/stream.h */
} dataset_source_t;

typedef struct dataset_options {
    const dataset_source_t *sources; /* copied */
    int n_sources;
    encoder_t encoder; /* what it points to must outlive the data set */
    data_format_t format;
    chat_template_t chat_template;
    int32_t max_seq_length; /* tokens of a sequence with its prefix, without virtual tokens */
    packing_t packing;
    truncation_t truncation; /* of examples that are no documents; the prefix is kept */
    bool train_on_inputs;
    bool append_eos;
    const virtual_layout_t *layout; /* virtual tokens and the fields that choose them; borrowed; NULL: none */
    const int32_t *label;           /* as render_options_t's; borrowed */
    const char *score_field;        /* a number of every example that judges it; borrowed; NULL: none is read */
    /* Only the examples whose field `route_field` has this value; the others are no sequences of this data set and are
     * neither tokenised nor checked. NULL: all. `routes` are all values that exist: another one is an error by line.
     * Borrowed. */
    const char *route_field, *route;
    const char *const *routes; /* [n_routes] */
    int n_routes;
    /* What stands around documents; with fields that a user gives, also behind the prefix of other examples. Borrowed;
     * NULL: nothing. */
    const condition_t *condition;
    /* Only the examples whose number keeps the limit, as with a route; one without the number is an error by line. */
    threshold_t filter; /* its strings are borrowed; field NULL: all */
} dataset_options_t;

typedef struct dataset dataset_t;

/* Opens and indexes the files and tells the format of each from its first example. ST_USAGE: settings that exclude
 * each other. ST_INPUT: missing or empty files. */
status_t dataset_open(const dataset_options_t *o, dataset_t **out);
void dataset_close(dataset_t *d);

int64_t dataset_examples(const dataset_t *d);
/* Tokenises examples [lo, hi) and notes their lengths. */
status_t dataset_scan(dataset_t *d, int64_t lo, int64_t hi);
/* The lengths, for exchange between ranks: n is a multiple of the number of examples, each of which owns n / examples
 * items in a row. Items of examples that were not scanned here are -1 until the caller fills them in. */
void dataset_lengths(dataset_t *d, int32_t **lengths, int64_t *n);
/* Checks every example and builds the table of sequences. */
status_t dataset_finish(dataset_t *d);

/* After dataset_finish: */
int64_t dataset_sequences(const dataset_t *d);
int32_t dataset_sequence_tokens(const dataset_t *d, int64_t sequence); /* tokens, BOS included, virtual ones not */
int32_t dataset_sequence_loss_tokens(const dataset_t *d, int64_t sequence);
int32_t dataset_max_tokens(const dataset_t *d);             /* of the longest sequence, virtual tokens not counted */
int32_t dataset_virtual_tokens(const dataset_t *d);         /* of every sequence: slots and prefix rows */
const virtual_layout_t *dataset_layout(const dataset_t *d); /* never NULL */
int dataset_sources(const dataset_t *d);
/* Source s owns the sequences [first, first + n). */
void dataset_source_range(const dataset_t *d, int s, int64_t *first, int64_t *n, double *weight);

/* Work space of one thread for dataset_sequence; zero is valid. It remembers the last document, so that reading the
 * pieces of one document in order tokenises it once. Not to be shared between data sets. */
typedef struct dataset_scratch {
    strbuf_t line;
    sequence_t example;
    condition_tokens_t slots; /* of it */
    int64_t tokens;           /* of it, with prefix and EOS, without slots */
    int64_t cached;           /* 1 + the example that stands in `example`; 0 for none */
} dataset_scratch_t;
void dataset_scratch_release(dataset_scratch_t *s);

/* Replaces `out` by the ids and weights of a sequence. `place` is its place in the stream, which decides what dropout
 * leaves out; -1 (evaluation): nothing. ST_INPUT when the file changed since it was scanned. */
status_t dataset_sequence(const dataset_t *d, int64_t sequence, int64_t place, dataset_scratch_t *scratch,
                          sequence_t *out);
