/* The order of training: an endless stream of sequences, epoch after epoch.
 *
 * An epoch takes round(weight * n) sequences of each source. With shuffle it is a permutation that depends on (seed,
 * epoch) alone and is computed, not stored: any place of the stream is found in O(1). Without, sources follow each
 * other in file order. A source that gives fewer or more than its n sequences goes through all of them in turn, over as
 * many epochs as that takes. A stream is a function of (data set, options, place): it is the same on every rank.
 * *local* */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "data/dataset.h"

typedef struct stream_options {
    uint64_t seed;
    bool shuffle;
    int64_t global_batch_size;   /* sequences a step, or 0 and ... */
    int64_t global_batch_tokens; /* ... as many sequences as reach this number of tokens */
    double epochs;               /* the stream ends after epochs * sequences an epoch; 0: never */
} stream_options_t;

/* One step's sequences. Their order numbers in the stream are first, first + 1 ... The array belongs to the stream's
 * user and is reused by stream_step; zero is valid. */
typedef struct stream_step {
    int64_t first; /* place in the stream of the first one */
    int64_t n;     /* 0: the stream has ended */
    int64_t cap;
    int64_t *sequences; /* [n] numbers in the data set */
} stream_step_t;

typedef struct stream stream_t;

/* The data set must be finished and outlive the stream. ST_USAGE for settings that give no sequence. */
status_t stream_open(const dataset_t *d, const stream_options_t *o, stream_t **out);
void stream_close(stream_t *s);
/* The most sequences that a step can have, from the lengths of all and the end of the stream. */
int64_t stream_step_most(const stream_t *s);
/* Takes the memory for n of them beforehand. */
status_t stream_step_reserve(stream_step_t *out, int64_t n);
/* The sequences of the step that begins at `place` (0 at the start; the next step begins at first + n). */
status_t stream_step(const stream_t *s, int64_t place, stream_step_t *out);
void stream_step_release(stream_step_t *step);

int64_t stream_epoch_sequences(const stream_t *s);
int64_t stream_end(const stream_t *s); /* places of the whole stream, INT64_MAX when endless */
int64_t stream_sequence_at(const stream_t *s, int64_t place);
/* Steps until the stream's end, -1 when endless. O(1) with global_batch_size, else walks the lengths. */
int64_t stream_count_steps(const stream_t *s);

/* The bijection of [0, n) for (seed, round, domain), exposed for tests. */
int64_t stream_permute(uint64_t seed, uint64_t round, uint32_t domain, int64_t n, int64_t i);
