/* What rendering needs of a tokenizer, as a table, so that tests can bring a small one of their own.
 *
 * `encode` is called from many threads at once and appends ids of `text` without special tokens put around; text of
 * added tokens in it becomes those tokens. The encoder borrows everything it points to. *local* */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"

struct tokenizer; /* data/tokenizer.h */

typedef struct encoder {
    const void *self;
    status_t (*encode)(const void *self, const char *text, size_t n, i32buf_t *ids);
    int32_t (*token_id)(const void *self, const char *text); /* id of exactly this token, -1 if none */
    const int32_t *prefix; /* what stands in front of every sequence: BOS or nothing */
    int n_prefix;
    int32_t eos;          /* -1 if the model names none */
    int32_t n_ids;        /* ids are below it; 0: unknown */
    uint64_t fingerprint; /* tokenizer_opened_fingerprint(): a token store with another one does not fit */
} encoder_t;

/* The encoder of a real tokenizer, which must outlive it. */
encoder_t encoder_of_tokenizer(const struct tokenizer *t);
