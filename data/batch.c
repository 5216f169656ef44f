#include "data/batch.h"
#include <stdlib.h>
#include <string.h>

/* One block for all fields. */
static status_t init_labels(batch_t *b) {
    void *memory;
    TRY(buf_calloc(&memory, VIRTUAL_MAX_FIELDS * b->capacity, sizeof **b->label, "micro-batch"));
    for (int f = 0; f < VIRTUAL_MAX_FIELDS; f++) b->label[f] = (int32_t *)memory + f * b->capacity;
    return ST_OK;
}

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
        {&b->slot, capacity, sizeof *b->slot},
        {&b->cu_seqlens, capacity + 1, sizeof *b->cu_seqlens},
        {&b->prefix, capacity, sizeof *b->prefix},
        {&b->cu_prefix, capacity + 1, sizeof *b->cu_prefix},
        {&b->token_key, capacity, sizeof *b->token_key},
        {&b->loss_row, capacity, sizeof *b->loss_row},
        {&b->targets, capacity, sizeof *b->targets},
        {&b->loss_weight, capacity, sizeof *b->loss_weight},
        {&b->score, capacity, sizeof *b->score},
    };
    status_t labels = init_labels(b);
    if (labels != ST_OK) {
        batch_release(b);
        return labels;
    }
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
    free(b->slot);
    free(b->cu_seqlens);
    free(b->prefix);
    free(b->cu_prefix);
    free(b->label[0]);
    free(b->token_key);
    free(b->loss_row);
    free(b->targets);
    free(b->loss_weight);
    free(b->score);
    sequence_release(&b->sequence);
    dataset_scratch_release(&b->scratch);
    *b = (batch_t){0};
}

void batch_clear(batch_t *b) {
    b->n_tokens = b->n_seqs = b->n_loss = b->n_prefix = 0;
    b->weight_sum = 0;
    b->cu_seqlens[0] = b->cu_prefix[0] = 0;
}

/* First row of the group for this example. */
static status_t group_first(const virtual_layout_t *v, const virtual_group_t *g, const sequence_t *s, int32_t *first) {
    *first = g->first;
    if (g->field < 0) return ST_OK;
    const virtual_field_t *f = &v->field[g->field];
    int32_t label = s->label[g->field];
    if (label < 0 && g->missing < 0)
        return st_raise(ST_INPUT, NULL, "an example has no known label in the field '%s'; add it", f->name);
    *first = label < 0 ? g->missing : g->first + label * g->count;
    return ST_OK;
}

/* The labels by which the sequence itself is routed. */
static status_t add_labels(batch_t *b, const virtual_layout_t *v, const sequence_t *s) {
    for (int i = 0; i < v->n_field; i++) {
        const virtual_field_t *f = &v->field[i];
        if (s->label[i] >= f->n)
            return st_raise(ST_INTERNAL, "batch_add", "label %d of %d of field '%s'", s->label[i], f->n, f->name);
        if (s->label[i] < 0 && !f->optional)
            return st_raise(ST_INPUT, NULL, "an example has no known label in the field '%s'; add it", f->name);
        b->label[i][b->n_seqs] = s->label[i];
    }
    return ST_OK;
}

/* Slots held once have random values of their own, the same in all batches of a step. */
#define SHARED_KEY ((uint64_t)UINT32_MAX << 32)

/* Where the next row goes. */
typedef struct writer {
    batch_t *batch;
    const virtual_layout_t *layout;
    const sequence_t *s;
    uint64_t key;     /* of the sequence's first row */
    int64_t first;    /* row of the batch where the sequence begins, slots held elsewhere counted */
    int32_t position; /* of the first row: the prefix rows stand before it */
} writer_t;

static int64_t next_row(const writer_t *w, int32_t id, int32_t slot) {
    batch_t *b = w->batch;
    int64_t row = b->n_tokens++, k = row - w->first;
    b->ids[row] = id;
    b->slot[row] = slot;
    b->positions[row] = (int32_t)(w->position + k);
    b->token_key[row] = w->key | (uint64_t)k;
    return row;
}

static status_t add_slots(const writer_t *w, virtual_place_t place) {
    for (int i = 0; i < w->layout->n_group; i++) {
        const virtual_group_t *g = &w->layout->group[i];
        int32_t first;
        if (g->place != place) continue;
        TRY(group_first(w->layout, g, w->s, &first));
        for (int32_t k = 0; k < g->count; k++) next_row(w, 0, first + k);
    }
    return ST_OK;
}

static status_t add_prefix(const writer_t *w) {
    batch_t *b = w->batch;
    for (int i = 0; i < w->layout->n_group; i++) {
        const virtual_group_t *g = &w->layout->group[i];
        int32_t first;
        if (g->place != VIRTUAL_PREFIX) continue;
        TRY(group_first(w->layout, g, w->s, &first));
        for (int32_t k = 0; k < g->count; k++) b->prefix[b->n_prefix++] = first + k;
    }
    return ST_OK;
}

static void end_sequence(batch_t *b) {
    b->cu_seqlens[++b->n_seqs] = (int32_t)b->n_tokens;
    b->cu_prefix[b->n_seqs] = (int32_t)b->n_prefix;
}

/* The slots of all sequences, as the first one of the batch. No label chooses among them. */
static status_t add_shared(batch_t *b, const virtual_layout_t *v) {
    const writer_t w = {b, v, NULL, SHARED_KEY, b->n_tokens, virtual_prefix(v)};
    TRY(add_prefix(&w));
    TRY(add_slots(&w, VIRTUAL_FIRST));
    end_sequence(b);
    return ST_OK;
}

/* Tokens [from, to) of the sequence. The row in front of a weighted token, slot or not, predicts it. */
static void add_tokens(const writer_t *w, int64_t from, int64_t to) {
    batch_t *b = w->batch;
    for (int64_t t = from; t < to; t++) {
        int64_t row = next_row(w, w->s->ids.data[t], -1);
        float weight = w->s->weight[t];
        if (t == 0 || !(weight > 0)) continue; /* the first token is no target, whatever stands before it */
        b->loss_row[b->n_loss] = (int32_t)(row - 1);
        b->targets[b->n_loss] = w->s->ids.data[t];
        b->score[b->n_loss] = w->s->score;
        b->loss_weight[b->n_loss++] = weight;
        b->weight_sum += (double)weight;
    }
}

status_t batch_add(batch_t *b, const virtual_layout_t *v, const sequence_t *s, int64_t index) {
    int64_t n = s->ids.len, slots = virtual_slots(v), prefix = virtual_prefix(v);
    int32_t shared = b->share ? virtual_shared(v) : 0;
    int64_t once = shared && b->n_seqs == 0 ? shared + prefix : 0;
    if (s->n_prefix < 0 || s->n_prefix > s->n_prompt || s->n_prompt > n)
        return st_raise(ST_INTERNAL, "batch_add", "a sequence of %lld tokens whose prefix has %lld and prompt %lld",
                        (long long)n, (long long)s->n_prefix, (long long)s->n_prompt);
    if (n > b->capacity - b->n_tokens - b->n_prefix - slots - prefix - once || b->n_seqs == b->capacity)
        return st_raise(ST_INTERNAL, "batch_add", "more than %lld tokens in a micro-batch", (long long)b->capacity);
    if (once) TRY(add_shared(b, v));
    const writer_t w = {b, v, s, (uint64_t)index << 32, b->n_tokens - shared, (int32_t)prefix};
    TRY(add_labels(b, v, s));
    TRY(add_prefix(&w));
    for (int32_t k = 0; k < shared; k++) b->prefix[b->n_prefix++] = v->prefix_rows + k;
    if (!shared) TRY(add_slots(&w, VIRTUAL_FIRST));
    add_tokens(&w, 0, s->n_prefix);
    TRY(add_slots(&w, VIRTUAL_AFTER_BOS));
    add_tokens(&w, s->n_prefix, s->n_prompt);
    TRY(add_slots(&w, VIRTUAL_AFTER_PROMPT));
    add_tokens(&w, s->n_prompt, n);
    end_sequence(b);
    return ST_OK;
}

status_t batch_fill(batch_t *b, const dataset_t *d, const int64_t *sequences, int64_t first, const int64_t *index,
                    int64_t n) {
    batch_clear(b);
    for (int64_t i = 0; i < n; i++) {
        int64_t place = first < 0 ? -1 : first + index[i];
        TRY(dataset_sequence(d, sequences[index[i]], place, &b->scratch, &b->sequence));
        TRY(batch_add(b, dataset_layout(d), &b->sequence, index[i]));
    }
    return ST_OK;
}
