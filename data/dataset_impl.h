/* What dataset.c and dataset_sequence.c share; nobody else includes it. */
#pragma once
#include "data/dataset.h"
#include "data/jsonl.h"

typedef struct source {
    jsonl_t lines;
    data_format_t format; /* of all its lines */
    double weight;
    int64_t first_example;
    int64_t first_sequence, n_sequences;
} source_t;

/* `tokens` of an example that takes another route than the data set's. */
enum { DATASET_OTHER_ROUTE = -2 };

struct dataset {
    dataset_options_t options; /* `sources` is not kept */
    source_t *sources;
    int n_sources;
    int64_t n;        /* examples */
    int32_t *lengths; /* [2n] see dataset_lengths */
    /* [n+1]: sequences before an example; with PACKING_WRAPPED tokens before it, prefixes not counted */
    int64_t *start;
    int64_t n_sequences; /* -1 before dataset_finish */
    int32_t room;        /* tokens of a piece or window beside the prefix */
    int32_t max_tokens;
};

source_t *dataset_source_of(const dataset_t *d, int64_t example);
/* Renders an example as a whole, before cutting, into scratch->example, whose message names path:line. */
status_t dataset_render(const dataset_t *d, int64_t example, dataset_scratch_t *scratch);
/* Whether an example takes the data set's route; read from its line, which must name a known one. */
status_t dataset_takes_route(const dataset_t *d, int64_t example, dataset_scratch_t *scratch, bool *takes);
/* Puts path:line in front of the message. */
status_t dataset_at(const dataset_t *d, int64_t example, status_t st);
/* Replaces `out` by the example cut to max_seq_length as `truncation` says. */
status_t dataset_truncate(const dataset_t *d, const sequence_t *example, sequence_t *out);
/* Pieces of a document (windows of a stream) whose body, prefix not counted, has `body` tokens. */
int64_t dataset_pieces(const dataset_t *d, int64_t body);
/* Tokens that a document puts into the wrapped stream, with the EOS that joins it to the next one. */
int64_t dataset_wrapped_tokens(const dataset_t *d, int64_t example);
