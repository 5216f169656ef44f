#include "train/run/sharding.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

void sharding_share(const comm_t *c, int64_t n, int64_t *first, int64_t *count) {
    comm_data_share(n, comm_size(c), comm_rank(c), first, count);
}

/* A row of squares is a whole share of the vector of all rows, whose bits the exchange keeps. */
void sharding_update(comm_data_t *d, adamw_t *a, const float *grad, double scale, double max_norm, double lr) {
    const int64_t floats = (int64_t)(sizeof(double) / sizeof(float)) * a->n_share * ADAMW_APART;
    adamw_measure(a, grad, scale, max_norm, lr);
    comm_data_all_gather(d, (float *)(void *)a->squares, floats);
    comm_data_join(d);
    adamw_apply(a, grad);
}

/* The values of a window may lie outside of the blob: then their shares go to the others piece by piece. */
static void publish_window(comm_data_t *d, const param_t *p, int64_t n) {
    float *values = p->at ? p->at : p->value.data;
    for (int rank = 0; rank < comm_size(comm_data_control(d)); rank++) {
        int64_t first, count, lo = p->offset, hi = lo + view_count(&p->value);
        comm_data_share(n, comm_size(comm_data_control(d)), rank, &first, &count);
        if (lo < first) lo = first;
        if (hi > first + count) hi = first + count;
        if (lo < hi) comm_data_bcast(d, values + (lo - p->offset), hi - lo, rank);
    }
}

void sharding_publish(comm_data_t *d, const param_set_t *params) {
    comm_data_all_gather(d, params->device ? params->device_trainable : params->trainable, params->n_trainable);
    comm_data_begin(d);
    for (int64_t i = 0; i < params->count; i++)
        if (params->item[i].trainable && !param_in_blob(params, &params->item[i]))
            publish_window(d, &params->item[i], params->n_trainable);
    comm_data_end(d);
    comm_data_join(d);
}

/* This rank's share where the host can read it: in place, or in *copy, which the caller frees. */
static status_t own_share(const adamw_t *a, float *state[2], float **copy) {
    state[0] = a->own.exp_avg;
    state[1] = a->own.exp_avg_sq;
    *copy = NULL;
    if (!a->device) return ST_OK;
    void *host;
    TRY(buf_calloc(&host, 2 * a->n, sizeof(float), "state of a checkpoint"));
    *copy = state[0] = host;
    state[1] = state[0] + a->n;
    return adamw_fetch(a, state[0], state[1]);
}

static status_t receive(comm_t *c, const adamw_t *a, float *all) {
    for (int rank = 1; rank < comm_size(c); rank++) {
        int64_t first, n;
        comm_data_share(a->n_all, comm_size(c), rank, &first, &n);
        TRY(comm_recv_f32(c, all + first, n, rank));
        TRY(comm_recv_f32(c, all + a->n_all + first, n, rank));
    }
    return ST_OK;
}

static status_t send(comm_t *c, const adamw_t *a, float *const state[2]) {
    TRY(comm_send_f32(c, state[0], a->n, 0));
    return comm_send_f32(c, state[1], a->n, 0);
}

status_t sharding_gather(comm_t *c, const adamw_t *a, float *state[2], float **copy) {
    void *all = NULL;
    bool first = !comm_rank(c);
    *copy = NULL;
    if (!a->is_share) return comm_agree(c, first ? own_share(a, state, copy) : ST_OK);
    status_t st =
        first ? buf_calloc(&all, 2 * a->n_all, sizeof(float), "state of a checkpoint") : own_share(a, state, copy);
    *copy = first ? all : *copy;
    if (first && st == ST_OK) {
        state[0] = all;
        state[1] = state[0] + a->n_all;
        st = adamw_fetch(a, state[0], state[1]); /* rank 0 has the first share */
    }
    TRY(comm_agree(c, st));
    return first ? receive(c, a, all) : send(c, a, state);
}
