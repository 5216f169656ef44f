#include "train/run/sharding.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

void sharding_share(const comm_t *c, int64_t n, int64_t *first, int64_t *count) {
    comm_data_share(n, comm_size(c), comm_rank(c), first, count);
}

/* The values of a window lie outside of the blob, so their shares go to the others piece by piece. */
static void publish_window(comm_data_t *d, const param_t *p, int64_t n) {
    for (int rank = 0; rank < comm_size(comm_data_control(d)); rank++) {
        int64_t first, count, lo = p->offset, hi = lo + view_count(&p->value);
        comm_data_share(n, comm_size(comm_data_control(d)), rank, &first, &count);
        if (lo < first) lo = first;
        if (hi > first + count) hi = first + count;
        if (lo < hi) comm_data_bcast(d, (float *)p->value.data + (lo - p->offset), hi - lo, rank);
    }
}

void sharding_publish(comm_data_t *d, const param_set_t *params) {
    comm_data_all_gather(d, params->trainable, params->n_trainable);
    comm_data_begin(d);
    for (int64_t i = 0; i < params->count; i++)
        if (params->item[i].trainable && params->item[i].window_of >= 0)
            publish_window(d, &params->item[i], params->n_trainable);
    comm_data_end(d);
    comm_data_join(d);
}

static status_t receive(comm_t *c, const adamw_t *a, int64_t n_trainable, float *all) {
    memcpy(all, a->exp_avg, (size_t)a->n * sizeof *all); /* rank 0 has the first share */
    memcpy(all + n_trainable, a->exp_avg_sq, (size_t)a->n * sizeof *all);
    for (int rank = 1; rank < comm_size(c); rank++) {
        int64_t first, n;
        comm_data_share(n_trainable, comm_size(c), rank, &first, &n);
        TRY(comm_recv_f32(c, all + first, n, rank));
        TRY(comm_recv_f32(c, all + n_trainable + first, n, rank));
    }
    return ST_OK;
}

status_t sharding_gather(comm_t *c, const adamw_t *a, int64_t n_trainable, float **state) {
    void *all = NULL;
    status_t st = comm_rank(c) ? ST_OK : buf_calloc(&all, 2 * n_trainable, sizeof(float), "state of a checkpoint");
    TRY(comm_agree(c, st));
    *state = all;
    if (!comm_rank(c)) return receive(c, a, n_trainable, all);
    TRY(comm_send_f32(c, a->exp_avg, a->n, 0));
    return comm_send_f32(c, a->exp_avg_sq, a->n, 0);
}
