/* Inside the building of token stores only. */
#pragma once
#include "data/jsonl.h"
#include "data/store_build.h"

/* Cut after so many lines or bytes, whichever comes first: of the work that a kill can lose, and of memory. */
enum { SHARD_LINES = 4096, SHARD_BYTES = 16 << 20 };

typedef struct store_shard {
    int file;
    int32_t n;     /* lines */
    int64_t first; /* line of the file */
} store_shard_t;

typedef struct store_input {
    jsonl_t lines;
    int64_t bytes, seconds, nanoseconds; /* size and time of change when it was opened */
} store_input_t;

struct store_build {
    store_build_options_t o;
    store_input_t *input; /* [n_input] */
    int n_input;
    store_shard_t *shard; /* [n_shards] */
    int64_t n_shards, cap_shards;
    char *parts; /* the directory */
};

int store_build_token_bytes(const store_build_t *b);
/* The file of a shard; owned by the caller, NULL with the error raised. */
char *store_build_part(const store_build_t *b, int64_t shard);
/* Of a shard whose lines have the hashes line[n]. */
uint64_t store_build_fingerprint(const store_build_t *b, const uint64_t *line, int64_t n);
