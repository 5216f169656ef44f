#include "data/batch.h"
#include <stdlib.h>
#include <string.h>

status_t batch_init(batch_t *b, int64_t capacity) {
    if (capacity < 1 || capacity >= INT32_MAX)
        return st_raise(ST_USAGE, "training.micro_batch_tokens", "%lld; it must be between 1 and 2^31 - 2",
                        (long long)capacity);
    *b = (batch_t){.capacity = capacity};
    const struct {
        void *array;
        int64_t n;
        size_t size;
    } arrays[] = {
        {&b->ids, capacity, sizeof *b->ids},
        {&b->positions, capacity, sizeof *b->positions},
        {&b->cu_seqlens, capacity + 1, sizeof *b->cu_seqlens},
        {&b->token_key, capacity, sizeof *b->token_key},
        {&b->loss_row, capacity, sizeof *b->loss_row},
        {&b->targets, capacity, sizeof *b->targets},
        {&b->loss_weight, capacity, sizeof *b->loss_weight},
    };
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
        void *memory;
        status_t st = buf_calloc(&memory, arrays[i].n, arrays[i].size, "micro-batch");
        if (st != ST_OK) {
            batch_release(b);
            return st;
        }
        memcpy(arrays[i].array, &memory, sizeof memory); /* the fields differ in type, not in representation */
    }
    return ST_OK;
}

void batch_release(batch_t *b) {
    free(b->ids);
    free(b->positions);
    free(b->cu_seqlens);
    free(b->token_key);
    free(b->loss_row);
    free(b->targets);
    free(b->loss_weight);
    sequence_release(&b->sequence);
    dataset_scratch_release(&b->scratch);
    *b = (batch_t){0};
}

static status_t add_sequence(batch_t *b, const sequence_t *s, int64_t index) {
    int64_t n = s->ids.len, first = b->n_tokens;
    if (n > b->capacity - first)
        return st_raise(ST_INTERNAL, "batch_fill", "more than %lld tokens in a micro-batch", (long long)b->capacity);
    for (int64_t t = 0; t < n; t++) {
        int64_t row = first + t;
        b->ids[row] = s->ids.data[t];
        b->positions[row] = (int32_t)t;
        b->token_key[row] = (uint64_t)index << 32 | (uint64_t)t;
        if (t + 1 == n || !(s->weight[t + 1] > 0)) continue;
        b->loss_row[b->n_loss] = (int32_t)row;
        b->targets[b->n_loss] = s->ids.data[t + 1];
        b->loss_weight[b->n_loss] = s->weight[t + 1];
        b->weight_sum += (double)s->weight[t + 1];
        b->n_loss++;
    }
    b->n_tokens += n;
    b->cu_seqlens[++b->n_seqs] = (int32_t)b->n_tokens;
    return ST_OK;
}

status_t batch_fill(batch_t *b, const dataset_t *d, const int64_t *sequences, const int64_t *index, int64_t n) {
    b->n_tokens = b->n_seqs = b->n_loss = 0;
    b->weight_sum = 0;
    b->cu_seqlens[0] = 0;
    if (n > b->capacity)
        return st_raise(ST_INTERNAL, "batch_fill", "%lld sequences in a micro-batch of %lld tokens", (long long)n,
                        (long long)b->capacity);
    for (int64_t i = 0; i < n; i++) {
        TRY(dataset_sequence(d, sequences[index[i]], &b->scratch, &b->sequence));
        TRY(add_sequence(b, &b->sequence, index[i]));
    }
    return ST_OK;
}
