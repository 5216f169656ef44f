#include "train/run/sharding.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/comm/comm_data.h"

void sharding_share(const comm_t *c, int64_t n, int64_t *first, int64_t *count) {
    comm_data_share(n, comm_size(c), comm_rank(c), first, count);
}

/* The weights of one share, in as few messages as their places allow: windows lie outside of the blob. */
static status_t publish_share(comm_t *c, const param_set_t *params, int root, int64_t first, int64_t n) {
    float *run = NULL;
    int64_t length = 0;
    for (int64_t i = 0; i < params->count; i++) {
        const param_t *p = &params->item[i];
        if (!p->trainable) continue;
        int64_t lo = p->offset, hi = lo + view_count(&p->value);
        if (lo < first) lo = first;
        if (hi > first + n) hi = first + n;
        if (lo >= hi) continue;
        float *data = (float *)p->value.data + (lo - p->offset);
        if (run && run + length == data) {
            length += hi - lo;
            continue;
        }
        if (run) TRY(comm_bcast(c, run, length * (int64_t)sizeof *run, root));
        run = data;
        length = hi - lo;
    }
    return run ? comm_bcast(c, run, length * (int64_t)sizeof *run, root) : ST_OK;
}

status_t sharding_publish(comm_t *c, const param_set_t *params) {
    for (int rank = 0; rank < comm_size(c); rank++) {
        int64_t first, n;
        comm_data_share(params->n_trainable, comm_size(c), rank, &first, &n);
        TRY(publish_share(c, params, rank, first, n));
    }
    return ST_OK;
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
