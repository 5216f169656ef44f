#include "train/run/micro.h"
#include <stdlib.h>
#include <string.h>

static void put(build_t *b, val_t v, const void *src, int64_t n, size_t size) {
    if (v.id >= 0 && n) memcpy(tape_data(b->tape, v), src, (size_t)n * size);
}

/* As the goal wants them; the batch keeps the data's own. */
static void put_weights(build_t *b, const batch_t *batch) {
    const goal_t *g = b->options.goal;
    put(b, b->weights, batch->loss_weight, batch->n_loss, sizeof *batch->loss_weight);
    if (g && g->weigh) {
        float *weight = tape_data(b->tape, b->weights);
        for (int64_t i = 0; i < batch->n_loss; i++) weight[i] = g->weigh(g->cfg, batch->score[i], weight[i]);
    }
    if (b->rewards.id < 0) return;
    float *reward = tape_data(b->tape, b->rewards);
    for (int64_t i = 0; i < batch->n_loss; i++) reward[i] = (float)-batch->score[i];
}

/* The first of few sizes that is no smaller: quarters of powers of two. */
static int64_t bucket(int64_t n, int64_t capacity) {
    int64_t step = 8;
    while (step * 8 <= n) step *= 2;
    int64_t up = (n + step - 1) / step * step;
    return up < capacity ? up : capacity;
}

static void pad(build_t *b, val_t v, int64_t from, int64_t to, int32_t value) {
    if (v.id < 0) return;
    int32_t *data = tape_data(b->tape, v);
    for (int64_t i = from; i < to; i++) data[i] = value;
}

/* A device has its work recorded for few sizes. Rows are added that belong to no sequence, sequences and prefixes that
 * are empty, and rows whose loss has no weight. */
static tape_sizes_t pad_to_bucket(build_t *b, tape_sizes_t n) {
    const tape_sizes_t most = b->options.capacity;
    const tape_sizes_t to = {bucket(n.n, most.n), bucket(n.m, most.m), bucket(n.s, most.s), bucket(n.p, most.p)};
    pad(b, b->ids, n.n, to.n, 0);
    pad(b, b->positions, n.n, to.n, 0);
    pad(b, b->slot, n.n, to.n, -1);
    pad(b, b->cu, n.s + 1, to.s + 1, (int32_t)n.n);
    pad(b, b->past, n.s, to.s, 0);
    pad(b, b->prefix, n.p, to.p, -1);
    pad(b, b->cu_prefix, n.s + 1, to.s + 1, (int32_t)n.p);
    for (int f = 0; f < VIRTUAL_MAX_FIELDS; f++) pad(b, b->label[f], n.s, to.s, 0);
    if (b->key.id >= 0)
        memset((uint64_t *)tape_data(b->tape, b->key) + n.n, 0, (size_t)(to.n - n.n) * sizeof(uint64_t));
    pad(b, b->rows, n.m, to.m, 0);
    pad(b, b->targets, n.m, to.m, 0);
    pad(b, b->weights, n.m, to.m, 0); /* the bits of 0.0f are 0 */
    pad(b, b->rewards, n.m, to.m, 0);
    return to;
}

void micro_load(build_t *b, const batch_t *batch) {
    put(b, b->ids, batch->ids, batch->n_tokens, sizeof *batch->ids);
    put(b, b->positions, batch->positions, batch->n_tokens, sizeof *batch->positions);
    put(b, b->cu, batch->cu_seqlens, batch->n_seqs + 1, sizeof *batch->cu_seqlens);
    put(b, b->slot, batch->slot, batch->n_tokens, sizeof *batch->slot);
    put(b, b->prefix, batch->prefix, batch->n_prefix, sizeof *batch->prefix);
    put(b, b->cu_prefix, batch->cu_prefix, batch->n_seqs + 1, sizeof *batch->cu_prefix);
    for (int f = 0; f < VIRTUAL_MAX_FIELDS; f++)
        put(b, b->label[f], batch->label[f], batch->n_seqs, sizeof **batch->label);
    put(b, b->key, batch->token_key, batch->n_tokens, sizeof *batch->token_key);
    put(b, b->rows, batch->loss_row, batch->n_loss, sizeof *batch->loss_row);
    put(b, b->targets, batch->targets, batch->n_loss, sizeof *batch->targets);
    put_weights(b, batch);
    tape_sizes_t sizes = {batch->n_tokens, batch->n_loss, batch->n_seqs, batch->n_prefix};
    tape_set_sizes(b->tape, tape_on_device(b->tape) ? pad_to_bucket(b, sizes) : sizes);
}

int64_t micro_prefix_capacity(const virtual_layout_t *layout, int64_t capacity) {
    return virtual_prefix(layout) ? capacity : 0;
}

static int64_t shared_capacity(const virtual_layout_t *layout, int64_t capacity) {
    return virtual_shared(layout) ? capacity + virtual_tokens(layout) : capacity;
}

status_t micro_batch_init(const virtual_layout_t *layout, int64_t capacity, batch_t *out) {
    TRY(batch_init(out, shared_capacity(layout, capacity)));
    out->share = true;
    return ST_OK;
}

void micro_share(const virtual_layout_t *layout, int64_t capacity, build_options_t *o) {
    const int64_t n = shared_capacity(layout, capacity);
    o->shared = virtual_shared(layout);
    o->shared_first = layout->prefix_rows;
    o->capacity = (tape_sizes_t){n, n, n, o->shared ? n : micro_prefix_capacity(layout, n)};
}

status_t micro_forward(build_t *b, double *loss) {
    void *first, *more;
    tape_forward(b->tape);
    TRY(tape_fetch(b->tape, b->loss, &first));
    *loss = *(double *)first;
    if (b->more_loss.id < 0) return ST_OK;
    TRY(tape_fetch(b->tape, b->more_loss, &more));
    *loss += *(double *)more;
    return ST_OK;
}

status_t micro_plan_reserve(micro_plan_t *p, int64_t n, int64_t capacity) {
    void *lengths = p->lengths;
    TRY(buf_reserve(&lengths, &p->cap, n, sizeof *p->lengths, "sequence lengths"));
    p->lengths = lengths;
    return pack_reserve(&p->pack, n, (int32_t)capacity);
}

status_t micro_plan(micro_plan_t *p, const dataset_t *d, const int64_t *sequences, int64_t n, packing_t kind,
                    int64_t capacity) {
    TRY(micro_plan_reserve(p, n, capacity));
    for (int64_t i = 0; i < n; i++)
        p->lengths[i] = dataset_sequence_tokens(d, sequences[i]) + dataset_virtual_tokens(d);
    return pack_step(&p->pack, kind, p->lengths, n, (int32_t)capacity);
}

void micro_plan_release(micro_plan_t *p) {
    pack_release(&p->pack);
    free(p->lengths);
    memset(p, 0, sizeof *p);
}

status_t micro_fill(const micro_plan_t *p, const dataset_t *d, const int64_t *sequences, int64_t first, int64_t m,
                    batch_t *batch) {
    int64_t begin = p->pack.start[m], n = p->pack.start[m + 1] - begin;
    return batch_fill(batch, d, sequences, first, p->pack.order + begin, n);
}
