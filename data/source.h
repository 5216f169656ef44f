/* Where examples come from: lines of a JSONL file, which are tokenised when they are rendered, or documents of a token
 * store (data/token_store.h), which were tokenised before. Either gives an example as a JSON object and, as a sequence,
 * its prefix and body: the same ones for the same text.
 *
 * Opening and closing are not thread-safe (token stores use HDF5), everything else is. All functions are *local*. */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include "data/jsonl.h"
#include "data/render.h"
#include "data/token_store.h"

struct source_kind;

typedef struct source {
    const struct source_kind *kind;
    const char *path; /* belongs to the source */
    int64_t n;        /* examples */
    jsonl_t lines;
    token_store_t *store;
} source_t;

/* A token store is told by its content. ST_INPUT: missing, damaged, or a store of another tokenizer than `e`. */
status_t source_open(const char *path, const encoder_t *e, source_t *out);
void source_close(source_t *s);

/* Puts "path:line" or "path:document i" in front of the message. */
status_t source_at(const source_t *s, int64_t i, status_t st);
/* What all examples are: `wanted`, or what the first one looks like when that is FORMAT_AUTO. */
status_t source_format(const source_t *s, data_format_t wanted, data_format_t *out);

/* Replaces `text` by the JSON of example i: a line, or the metadata of a document. The message has its place. */
status_t source_text(const source_t *s, int64_t i, strbuf_t *text);

/* Renders example i from its object as data/render.h does; *tokens is its length with prefix and EOS. A document of a
 * store is rendered without its body: the prefix and the labels alone. The message has no place yet. */
status_t source_render(const source_t *s, int64_t i, const json_t *object, const encoder_t *e,
                       const render_options_t *o, sequence_t *out, int64_t *tokens);

/* Appends tokens [from, from + n) of the body of document i, EOS included, with the weight w. `rendered` is what
 * source_render left. The message has its place. */
status_t source_add_body(const source_t *s, int64_t i, const sequence_t *rendered, const encoder_t *e, int64_t from,
                         int64_t n, float w, sequence_t *out);
