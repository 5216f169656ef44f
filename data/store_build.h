/* Building a token store from JSONL files, in shards.
 *
 * The lines are cut into shards by rules that know the input alone; each shard becomes a store of its own in
 * OUT.parts/, published whole, and the shards are joined in order. So any process may build any shard, a build that was
 * killed goes on with the shards that are there, and the result has the same bytes in every case. A shard is taken over
 * only when it verifies and its fingerprint fits the present lines, tokenizer and settings.
 *
 * The moves, in this order (train/cli/cmd_data.c deals them to ranks):
 *   store_build_open     indexes the files                     every process
 *   store_build_prepare  makes OUT.parts                       one process, before the next move of any
 *   store_build_find     is a shard there already?             any shard by any process
 *   store_build_shard    tokenises one, OpenMP inside          any shard by any process
 *   store_build_join     all shards into OUT                   one process, after all shards
 *   store_build_clean    removes OUT.parts                     the same
 * All functions are *local*. Not thread-safe. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "data/encoder.h"
#include "kernels/status.h"

typedef struct store_build_options {
    const char *const *paths; /* [n_paths] JSONL files, in the order of the store */
    int n_paths;
    const char *out;    /* the store */
    encoder_t encoder;  /* without its prefix and EOS: bodies alone */
    int32_t vocabulary; /* ids are below it */
    uint64_t tokenizer_fingerprint;
    const char *tokenizer;  /* where it is from, as it shall stand in the store */
    const char *text_field; /* "text" as a rule; all other fields are metadata */
} store_build_options_t;    /* everything in it must outlive the build */

typedef struct store_build store_build_t;

/* ST_INPUT: a file is missing or empty. ST_USAGE: OUT exists and is no token store. */
status_t store_build_open(const store_build_options_t *o, store_build_t **out);
void store_build_close(store_build_t *b); /* NULL is fine */
int64_t store_build_shards(const store_build_t *b);
/* ST_USAGE: the directory of OUT is missing or forbidden. */
status_t store_build_prepare(const store_build_t *b);
/* Whether the shard stands finished and right in OUT.parts. */
status_t store_build_find(const store_build_t *b, int64_t shard, bool *there);
/* ST_INPUT: the first bad line, as `path:line`: no JSON object, the text missing, no string or empty. */
status_t store_build_shard(const store_build_t *b, int64_t shard);
/* ST_INPUT: an input file changed since the build was opened. */
status_t store_build_join(const store_build_t *b);
/* Removes the parts; other files that somebody put there stay, and with them the directory. */
void store_build_clean(const store_build_t *b);
