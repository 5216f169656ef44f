#include "train/comm/comm_data.h"
#include <assert.h>
#include <stdlib.h>
#include "kernels/buf.h"
#include "train/comm/comm_data_impl.h"
#include "train/comm/comm_impl.h"

enum { SHARE_UNIT = 32 };

void comm_data_share(int64_t n, int size, int rank, int64_t *first, int64_t *count) {
    int64_t each = n / size / SHARE_UNIT * SHARE_UNIT;
    *first = each * rank;
    *count = rank == size - 1 ? n - *first : each;
}

static void host_close(comm_data_t *d) {
    free(d);
}

/* ---- one rank: every operation is the identity ------------------------------------------------------------------- */

static void none_vector(comm_data_t *d, float *v, int64_t n) {
    (void)d, (void)v, (void)n;
}
static void none_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count) {
    (void)d, (void)v, (void)n, (void)at, (void)count;
}
static void none_bcast(comm_data_t *d, float *v, int64_t n, int root) {
    (void)d, (void)v, (void)n, (void)root;
}
static void none_send(comm_data_t *d, const float *v, int64_t n, int to) {
    (void)v, (void)n;
    comm_die(d->comm, st_raise(ST_INTERNAL, "comm_data_send", "a single process has no rank %d to send to", to));
}
static void none_recv(comm_data_t *d, float *v, int64_t n, int from) {
    (void)v, (void)n;
    comm_die(d->comm, st_raise(ST_INTERNAL, "comm_data_recv", "a single process has no rank %d", from));
}
static void none_mark(comm_data_t *d) {
    (void)d;
}

static const comm_data_ops_t none_ops = {.name = "none",
                                         .close = host_close,
                                         .allreduce = none_vector,
                                         .reduce_scatter = none_scatter,
                                         .all_gather = none_vector,
                                         .bcast = none_bcast,
                                         .send = none_send,
                                         .recv = none_recv,
                                         .begin = none_mark,
                                         .end = none_mark,
                                         .join = none_mark};

/* ---- vectors of the host: the control communicator carries them ---------------------------------------------------
 */

static void must(comm_data_t *d, status_t st) {
    if (st != ST_OK) comm_die(d->comm, st);
}

static void host_allreduce(comm_data_t *d, float *v, int64_t n) {
    must(d, d->comm->ops->reduce(d->comm, COMM_SUM_F32, v, n));
}
static void host_reduce_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count) {
    for (int rank = 0; rank < d->comm->size; rank++) {
        int64_t first, end;
        comm_data_part(n, d->comm->size, rank, at, count, &first, &end);
        must(d, d->comm->ops->reduce_to(d->comm, v + first, end - first, rank));
    }
}
static void host_bcast(comm_data_t *d, float *v, int64_t n, int root) {
    must(d, comm_bcast(d->comm, v, n * (int64_t)sizeof *v, root));
}
static void host_all_gather(comm_data_t *d, float *v, int64_t n) {
    for (int rank = 0; rank < d->comm->size; rank++) {
        int64_t first, count;
        comm_data_share(n, d->comm->size, rank, &first, &count);
        host_bcast(d, v + first, count, rank);
    }
}
static void host_send(comm_data_t *d, const float *v, int64_t n, int to) {
    must(d, comm_send_f32(d->comm, v, n, to));
}
static void host_recv(comm_data_t *d, float *v, int64_t n, int from) {
    must(d, comm_recv_f32(d->comm, v, n, from));
}

static const comm_data_ops_t host_ops = {.name = "MPI",
                                         .close = host_close,
                                         .allreduce = host_allreduce,
                                         .reduce_scatter = host_reduce_scatter,
                                         .all_gather = host_all_gather,
                                         .bcast = host_bcast,
                                         .send = host_send,
                                         .recv = host_recv,
                                         .begin = none_mark,
                                         .end = none_mark,
                                         .join = none_mark};

/* ---- all kinds ----------------------------------------------------------------------------------------------------
 */

status_t comm_data_open(comm_t *c, const comm_data_options_t *o, comm_data_t **out) {
    if (c->size > 1 && o->device) return comm_nccl_open(c, o, out);
    void *p = NULL;
    TRY(comm_agree(c, buf_calloc(&p, 1, sizeof(comm_data_t), "data communicator")));
    comm_data_t *d = p;
    *d = (comm_data_t){.ops = c->size > 1 ? &host_ops : &none_ops, .comm = c, .device = o->device};
    *out = d;
    return ST_OK;
}

void comm_data_close(comm_data_t *d) {
    if (d) d->ops->close(d);
}

const char *comm_data_name(const comm_data_t *d) {
    return d->ops->name;
}
comm_t *comm_data_control(const comm_data_t *d) {
    return d->comm;
}
device_t *comm_data_device(const comm_data_t *d) {
    return d->device;
}

void comm_data_allreduce(comm_data_t *d, float *v, int64_t n) {
    assert(n >= 0);
    if (n) d->ops->allreduce(d, v, n);
}
void comm_data_reduce_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count) {
    assert(at >= 0 && count >= 0 && count <= n - at);
    if (count) d->ops->reduce_scatter(d, v, n, at, count);
}
void comm_data_all_gather(comm_data_t *d, float *v, int64_t n) {
    assert(n >= 0);
    if (n) d->ops->all_gather(d, v, n);
}
void comm_data_bcast(comm_data_t *d, float *v, int64_t n, int root) {
    assert(n >= 0 && root >= 0 && root < d->comm->size);
    if (n) d->ops->bcast(d, v, n, root);
}
void comm_data_send(comm_data_t *d, const float *v, int64_t n, int to) {
    assert(n >= 0 && to >= 0 && to < d->comm->size && to != d->comm->rank);
    if (n) d->ops->send(d, v, n, to);
}
void comm_data_recv(comm_data_t *d, float *v, int64_t n, int from) {
    assert(n >= 0 && from >= 0 && from < d->comm->size && from != d->comm->rank);
    if (n) d->ops->recv(d, v, n, from);
}
void comm_data_begin(comm_data_t *d) {
    d->ops->begin(d);
}
void comm_data_end(comm_data_t *d) {
    d->ops->end(d);
}
void comm_data_join(comm_data_t *d) {
    d->ops->join(d);
}
void comm_data_check(comm_data_t *d) {
    if (d->ops->check) d->ops->check(d);
}
