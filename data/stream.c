#include "data/stream.h"
#include "kernels/philox.h"
#include <math.h>
#include <stdlib.h>

/* One data source's part in an epoch. */
typedef struct part {
    int64_t first, n; /* its sequences in the data set */
    int64_t begin;    /* places of the epoch before it */
    int64_t draws;    /* places of the epoch that it owns */
} part_t;

struct stream {
    const dataset_t *data;
    stream_options_t options;
    part_t *parts;
    int n_parts;
    int64_t epoch; /* places in an epoch */
    int64_t end;
};

enum { FEISTEL_ROUNDS = 8, DOMAIN_EPOCH = 0 /* domain 1 + s: the order inside source s */ };

/* A Feistel network over 2 * half bits; values outside [0, n) are encrypted again until they fall inside. The network
 * is less than 4 n (at least 16) wide, so that takes 4 tries at most on average. */
int64_t stream_permute(uint64_t seed, uint64_t round, uint32_t domain, int64_t n, int64_t i) {
    uint32_t half = 2;
    while (half < 31 && (int64_t)1 << (2 * half) < n) half++;
    const uint64_t mask = ((uint64_t)1 << half) - 1;
    uint64_t v = (uint64_t)i;
    do {
        uint64_t left = v >> half, right = v & mask;
        for (uint32_t r = 0; r < FEISTEL_ROUNDS; r++) {
            uint32_t w[4];
            /* 31 bits of the half, 4 of the round, 29 of the domain: no two uses share a counter */
            rng_words(seed, RNG_SHUFFLE, round, right | (uint64_t)r << 31 | (uint64_t)domain << 35, w);
            uint64_t next = left ^ (w[0] & mask);
            left = right;
            right = next;
        }
        v = left << half | right;
    } while (v >= (uint64_t)n);
    return (int64_t)v;
}

static status_t set_parts(stream_t *s) {
    void *memory;
    TRY(buf_calloc(&memory, dataset_sources(s->data), sizeof *s->parts, "stream"));
    s->parts = memory;
    s->n_parts = dataset_sources(s->data);
    for (int k = 0; k < s->n_parts; k++) {
        part_t *p = &s->parts[k];
        double weight;
        dataset_source_range(s->data, k, &p->first, &p->n, &weight);
        double draws = round(weight * (double)p->n);
        if (!(draws < 0x1p60 / s->n_parts))
            return st_raise(ST_USAGE, "data.train", "weight %g of file %d is too large", weight, k + 1);
        p->begin = s->epoch;
        p->draws = (int64_t)draws;
        s->epoch += p->draws;
    }
    if (s->epoch == 0) return st_raise(ST_USAGE, "data.train", "the weights leave no sequence in an epoch; raise them");
    return ST_OK;
}

static status_t set_end(stream_t *s) {
    double epochs = s->options.epochs;
    s->end = INT64_MAX;
    if (epochs == 0) return ST_OK;
    if (!(epochs > 0) || !isfinite(epochs))
        return st_raise(ST_USAGE, "training.num_train_epochs", "%g; it must be a positive number", epochs);
    double end = ceil(epochs * (double)s->epoch * (1 - 0x1p-50)); /* 0.1 * 30 is 3, not 4 */
    if (end < 0x1p62) s->end = (int64_t)end;
    return ST_OK;
}

status_t stream_open(const dataset_t *d, const stream_options_t *o, stream_t **out) {
    void *memory;
    if ((o->global_batch_size > 0) == (o->global_batch_tokens > 0) || o->global_batch_size < 0 ||
        o->global_batch_tokens < 0)
        return st_raise(ST_USAGE, "training", "set either global_batch_size or global_batch_tokens to 1 or more");
    if (dataset_sequences(d) < 1) return st_raise(ST_INTERNAL, "stream_open", "the data set is not finished");
    TRY(buf_calloc(&memory, 1, sizeof(stream_t), "stream"));
    stream_t *s = memory;
    s->data = d;
    s->options = *o;
    status_t st = set_parts(s);
    if (st == ST_OK) st = set_end(s);
    if (st != ST_OK) {
        stream_close(s);
        return st;
    }
    *out = s;
    return ST_OK;
}

void stream_close(stream_t *s) {
    if (!s) return;
    free(s->parts);
    free(s);
}

int64_t stream_epoch_sequences(const stream_t *s) {
    return s->epoch;
}
int64_t stream_end(const stream_t *s) {
    return s->end;
}

int64_t stream_sequence_at(const stream_t *s, int64_t place) {
    const stream_options_t *o = &s->options;
    int64_t epoch = place / s->epoch, i = place % s->epoch;
    if (o->shuffle) i = stream_permute(o->seed, (uint64_t)epoch, DOMAIN_EPOCH, s->epoch, i);
    int lo = 0, hi = s->n_parts - 1; /* the last part that begins at or before i; parts without draws are passed over */
    while (lo < hi) {
        int mid = (lo + hi + 1) / 2;
        if (s->parts[mid].begin <= i)
            lo = mid;
        else
            hi = mid - 1;
    }
    const part_t *p = &s->parts[lo];
    i -= p->begin;
    if (p->draws == p->n) return p->first + i;
    int64_t draw = epoch * p->draws + i, turn = draw / p->n; /* <= place, so no overflow */
    i = draw % p->n;
    if (o->shuffle) i = stream_permute(o->seed, (uint64_t)turn, (uint32_t)lo + 1, p->n, i);
    return p->first + i;
}

status_t stream_step_reserve(stream_step_t *out, int64_t n) {
    void *data = out->sequences;
    TRY(buf_reserve(&data, &out->cap, n, sizeof *out->sequences, "sequences of a step"));
    out->sequences = data;
    return ST_OK;
}

int64_t stream_step_most(const stream_t *s) {
    const stream_options_t *o = &s->options;
    int64_t most = o->global_batch_size;
    if (!most) {
        int64_t shortest = INT64_MAX, n = dataset_sequences(s->data); /* stream_open wants one at least */
        for (int64_t i = 0; i < n; i++) {
            int64_t tokens = dataset_sequence_tokens(s->data, i);
            if (tokens < shortest) shortest = tokens;
        }
        most = (o->global_batch_tokens - 1) / shortest + 1;
    }
    return most < s->end ? most : s->end;
}

static status_t add_sequence(stream_step_t *out, int64_t sequence) {
    TRY(stream_step_reserve(out, out->n + 1));
    out->sequences[out->n++] = sequence;
    return ST_OK;
}

status_t stream_step(const stream_t *s, int64_t place, stream_step_t *out) {
    const stream_options_t *o = &s->options;
    int64_t tokens = 0;
    out->first = place;
    out->n = 0;
    while (place < s->end) {
        if (o->global_batch_size ? out->n >= o->global_batch_size : tokens >= o->global_batch_tokens) break;
        int64_t sequence = stream_sequence_at(s, place++);
        if (o->global_batch_tokens) tokens += dataset_sequence_tokens(s->data, sequence);
        TRY(add_sequence(out, sequence));
    }
    return ST_OK;
}

void stream_step_release(stream_step_t *step) {
    free(step->sequences);
    *step = (stream_step_t){0};
}

int64_t stream_count_steps(const stream_t *s) {
    const stream_options_t *o = &s->options;
    if (s->end == INT64_MAX) return -1;
    if (o->global_batch_size) return s->end / o->global_batch_size + (s->end % o->global_batch_size != 0);
    int64_t steps = 0, tokens = 0;
    for (int64_t place = 0; place < s->end; place++) {
        if (tokens == 0) steps++;
        tokens += dataset_sequence_tokens(s->data, stream_sequence_at(s, place));
        if (tokens >= o->global_batch_tokens) tokens = 0;
    }
    return steps;
}
