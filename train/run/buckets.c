#include "train/run/buckets.h"
#include <assert.h>

/* The smallest size of which there are at most BUCKETS_MOST. */
static int64_t least_of(int64_t n, int64_t least) {
    int64_t few = (n + BUCKETS_MOST - 1) / BUCKETS_MOST;
    return least > few ? least : few;
}

/* Keeps the order of what is complete at the same time, so that all ranks have one order. */
static void sort(buckets_t *b) {
    for (int i = 1; i < b->count; i++)
        for (int k = i; k > 0 && b->item[k].done < b->item[k - 1].done; k--) {
            const bucket_t later = b->item[k - 1];
            b->item[k - 1] = b->item[k];
            b->item[k] = later;
        }
}

void buckets_cut(const tape_t *t, const param_set_t *params, int64_t least, buckets_t *out) {
    int64_t end = params->n_trainable;
    bucket_t open = {.at = end};
    *out = (buckets_t){.n_all = end};
    least = least_of(end, least);
    for (int64_t i = params->count - 1; i >= 0; i--) {
        const param_t *p = &params->item[i];
        if (!p->trainable) continue;
        int64_t done = tape_gradient_done(t, (int)i);
        open.n += open.at - p->offset;
        open.at = p->offset;
        if (done > open.done) open.done = done;
        if (open.n < least && open.at > 0) continue;
        assert(out->count < BUCKETS_MOST);
        out->item[out->count++] = open;
        open = (bucket_t){.at = open.at};
    }
    sort(out);
    /* the last part is the rest of the pass: with one bucket, the whole */
    if (out->count) out->item[out->count - 1].done = tape_backward_events(t);
}

void buckets_reduce(const buckets_t *b, tape_t *t, comm_data_t *d, float *grad, bool share) {
    int64_t at = 0;
    for (int i = 0; i < b->count; i++) {
        const bucket_t *k = &b->item[i];
        if (t) tape_backward_part(t, at, k->done);
        at = k->done;
        if (share)
            comm_data_reduce_scatter(d, grad, b->n_all, k->at, k->n);
        else
            comm_data_allreduce(d, grad + k->at, k->n);
    }
    comm_data_join(d);
}
