/* The transport of a single process: every collective is the identity. */
#include "train/comm/comm_impl.h"
#include <stdlib.h>
#include "kernels/buf.h"

static void self_close(comm_t *c) {
    free(c);
}

static status_t self_reduce(comm_t *c, comm_reduction_t kind, void *v, int64_t n) {
    (void)c, (void)kind, (void)v, (void)n;
    return ST_OK;
}

static status_t self_reduce_to(comm_t *c, float *v, int64_t n, int root) {
    (void)c, (void)v, (void)n, (void)root;
    return ST_OK;
}

static status_t self_bcast(comm_t *c, void *bytes, int64_t n, int root) {
    (void)c, (void)bytes, (void)n, (void)root;
    return ST_OK;
}

static status_t self_barrier(comm_t *c) {
    (void)c;
    return ST_OK;
}

static status_t self_send(comm_t *c, const float *v, int64_t n, int to) {
    (void)c, (void)v, (void)n;
    return st_raise(ST_INTERNAL, "comm_send_f32", "a single process has no rank %d to send to", to);
}

static status_t self_recv(comm_t *c, float *v, int64_t n, int from) {
    (void)c, (void)v, (void)n;
    return st_raise(ST_INTERNAL, "comm_recv_f32", "a single process has no rank %d to receive from", from);
}

static void self_abort(comm_t *c, int code) {
    (void)c, (void)code;
}

static const comm_ops_t self_ops = {.close = self_close,
                                    .reduce = self_reduce,
                                    .reduce_to = self_reduce_to,
                                    .bcast = self_bcast,
                                    .barrier = self_barrier,
                                    .send = self_send,
                                    .recv = self_recv,
                                    .abort = self_abort};

status_t comm_self_open(comm_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(comm_t), "communicator"));
    comm_t *c = p;
    c->ops = &self_ops;
    c->size = c->local_size = 1;
    cpu_set_t mask;
    threads_mask(&mask);
    int32_t users[CPU_SETSIZE];
    for (int i = 0; i < CPU_SETSIZE; i++) users[i] = 1;
    c->threads = threads_share(&mask, users);
    *out = c;
    return ST_OK;
}
