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
    tape_set_sizes(b->tape, (tape_sizes_t){batch->n_tokens, batch->n_loss, batch->n_seqs, batch->n_prefix});
}

int64_t micro_prefix_capacity(const virtual_layout_t *layout, int64_t capacity) {
    return virtual_prefix(layout) ? capacity : 0;
}

double micro_forward(build_t *b) {
    tape_forward(b->tape);
    double more = b->more_loss.id < 0 ? 0 : *(double *)tape_data(b->tape, b->more_loss);
    return *(double *)tape_data(b->tape, b->loss) + more;
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
