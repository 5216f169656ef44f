/* The data communicator for vectors of a device: NCCL on a stream of its own. The communicator does not block: a call
 * that has not ended is asked about until it has, an error is there or its time is over. A second thread (watchdog.c)
 * asks for asynchronous errors and whether the last operation has ended, for the time in which this one waits for the
 * device. NCCL knows its state under one lock, because asking may finish what a call began. */
#include <cuda_runtime_api.h>
#include <nccl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/comm/comm_data_impl.h"
#include "train/comm/comm_impl.h"

enum { SPIN_NS = 1000000, NAP_NS = 50000, LOCK_NS = 300000000, BUS_BYTES = 32 };

typedef struct nccl {
    comm_data_t base; /* first: comm_data_t * and nccl_t * are the same address */
    ncclComm_t comm;
    cudaStream_t stream;
    cudaEvent_t ready, done; /* of the device's stream and of ours */
    int depth;               /* of groups */
    int64_t limit_ns;
    pthread_mutex_t lock; /* of the communicator, `done` and what follows */
    bool pending;         /* the watch has not seen `done` yet */
    /* of the last operation; read by the watch without the lock when this thread is stuck inside NCCL */
    _Atomic(const char *) op, place; /* place: of the last beat at that time */
    _Atomic int64_t since_ns;
} nccl_t;

/* ---- three verbs for errors: TRY and TRY_GOTO of a checked call, and keep for paths that clean up -------------------
 */

static status_t check_cuda(cudaError_t rc, const char *call) {
    if (rc == cudaSuccess) return ST_OK;
    (void)cudaGetLastError(); /* or the next call reports it again */
    return st_raise(ST_COMM, call, "%s; see the other ranks' messages", cudaGetErrorString(rc));
}

static const char *place_of(const nccl_t *n) {
    const char *place = atomic_load(&n->place);
    return place ? place : comm_place(n->base.comm);
}

static status_t check_nccl(const nccl_t *n, ncclResult_t rc, const char *call) {
    if (rc == ncclSuccess || rc == ncclInProgress) return ST_OK;
    const char *last = ncclGetLastError(n->comm);
    return st_raise(ST_COMM, "NCCL", "%s at %s: %s%s%s; see the other ranks' messages, or set NCCL_DEBUG=WARN", call,
                    place_of(n), ncclGetErrorString(rc), last && last[0] ? ": " : "", last ? last : "");
}

/* The first error stays; `st` is not even made when there is one. */
#define KEEP(first, checked)                                                                                           \
    do {                                                                                                               \
        if ((first) == ST_OK) (first) = (checked);                                                                     \
    } while (0)

static status_t too_late(const nccl_t *n, const char *op) {
    return st_raise(ST_COMM, "NCCL", "%s at %s has not ended for %lld s; look for a stopped rank or a broken link", op,
                    place_of(n), (long long)(n->limit_ns / 1000000000));
}

/* Waits until a call that may go on in the background has ended. */
static status_t settle(nccl_t *n, ncclResult_t rc, const char *op) {
    int64_t began = comm_now_ns(), now = began;
    while (rc == ncclInProgress) {
        pthread_mutex_lock(&n->lock);
        ncclResult_t asked = ncclCommGetAsyncError(n->comm, &rc);
        pthread_mutex_unlock(&n->lock);
        if (asked != ncclSuccess) rc = asked;
        if (rc != ncclInProgress) break;
        now = comm_now_ns();
        if (now - began > n->limit_ns) return too_late(n, op);
        if (now - began < SPIN_NS)
            sched_yield();
        else
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return check_nccl(n, rc, op);
}

static void must(nccl_t *n, status_t st) {
    if (st != ST_OK) comm_die(n->base.comm, st);
}

/* ---- operations ---------------------------------------------------------------------------------------------------
 */

/* Our stream goes on behind what the device's has been given; inside of a group that was done at its beginning. */
static void follow(nccl_t *n, const char *op) {
    atomic_store(&n->op, op);
    atomic_store(&n->place, comm_place(n->base.comm));
    atomic_store(&n->since_ns, comm_now_ns());
    if (n->depth) return;
    must(n, check_cuda(cudaEventRecord(n->ready, n->base.device->stream), "cudaEventRecord"));
    must(n, check_cuda(cudaStreamWaitEvent(n->stream, n->ready, 0), "cudaStreamWaitEvent"));
}

/* After a call; outside of groups its end is marked in our stream, for join and for the watch. */
static void posted(nccl_t *n, ncclResult_t rc) {
    const char *op = atomic_load(&n->op);
    if (n->depth) {
        must(n, check_nccl(n, rc, op));
        return;
    }
    must(n, settle(n, rc, op));
    pthread_mutex_lock(&n->lock);
    cudaError_t marked = cudaEventRecord(n->done, n->stream);
    n->pending = true;
    atomic_store(&n->since_ns, comm_now_ns());
    pthread_mutex_unlock(&n->lock);
    must(n, check_cuda(marked, "cudaEventRecord"));
}

/* POST(n, "name", call): one operation. */
#define POST(n, name, call)                                                                                            \
    do {                                                                                                               \
        follow(n, name);                                                                                               \
        pthread_mutex_lock(&(n)->lock);                                                                                \
        ncclResult_t rc_ = (call);                                                                                     \
        pthread_mutex_unlock(&(n)->lock);                                                                              \
        posted(n, rc_);                                                                                                \
    } while (0)

/* `op`: the name of what the group is. */
static void group_begin(nccl_t *n, const char *op) {
    if (!n->depth) follow(n, op);
    n->depth++;
    must(n, check_nccl(n, ncclGroupStart(), "ncclGroupStart"));
}

static void nccl_begin(comm_data_t *d) {
    group_begin((nccl_t *)d, "a group of messages");
}

static void nccl_end(comm_data_t *d) {
    nccl_t *n = (nccl_t *)d;
    pthread_mutex_lock(&n->lock);
    ncclResult_t rc = ncclGroupEnd();
    pthread_mutex_unlock(&n->lock);
    n->depth--;
    posted(n, rc);
}

static void nccl_join(comm_data_t *d) {
    nccl_t *n = (nccl_t *)d;
    must(n, check_cuda(cudaStreamWaitEvent(d->device->stream, n->done, 0), "cudaStreamWaitEvent"));
}

static void nccl_allreduce(comm_data_t *d, float *v, int64_t n) {
    nccl_t *m = (nccl_t *)d;
    POST(m, "all-reduce", ncclAllReduce(v, v, (size_t)n, ncclFloat32, ncclSum, m->comm, m->stream));
}

/* A part of the vector is of few ranks, each of which gets what is its own. */
static void scatter_part(nccl_t *m, float *v, int64_t n, int64_t at, int64_t count) {
    group_begin(m, "reduce-scatter");
    for (int rank = 0; rank < m->base.comm->size; rank++) {
        int64_t first, end;
        comm_data_part(n, m->base.comm->size, rank, at, count, &first, &end);
        if (first < end)
            POST(m, "reduce-scatter",
                 ncclReduce(v + first, v + first, (size_t)(end - first), ncclFloat32, ncclSum, rank, m->comm,
                            m->stream));
    }
    nccl_end(&m->base);
}

/* The whole: equal parts by one collective; what the last rank has beyond its equal part by a second one in the same
 * group. */
static void nccl_reduce_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count) {
    nccl_t *m = (nccl_t *)d;
    if (count < n) {
        scatter_part(m, v, n, at, count);
        return;
    }
    int last = d->comm->size - 1;
    int64_t first, each, rest;
    comm_data_share(n, d->comm->size, last, &first, &rest);
    each = first / last;
    rest -= each;
    float *mine = v + each * d->comm->rank, *tail = v + n - rest;
    group_begin(m, "reduce-scatter");
    if (each)
        POST(m, "reduce-scatter", ncclReduceScatter(v, mine, (size_t)each, ncclFloat32, ncclSum, m->comm, m->stream));
    if (rest)
        POST(m, "reduce-scatter", ncclReduce(tail, tail, (size_t)rest, ncclFloat32, ncclSum, last, m->comm, m->stream));
    nccl_end(d);
}

static void nccl_all_gather(comm_data_t *d, float *v, int64_t n) {
    nccl_t *m = (nccl_t *)d;
    int last = d->comm->size - 1;
    int64_t first, each, rest;
    comm_data_share(n, d->comm->size, last, &first, &rest);
    each = first / last;
    rest -= each;
    const float *mine = v + each * d->comm->rank;
    float *tail = v + n - rest;
    group_begin(m, "all-gather");
    if (each) POST(m, "all-gather", ncclAllGather(mine, v, (size_t)each, ncclFloat32, m->comm, m->stream));
    if (rest) POST(m, "all-gather", ncclBroadcast(tail, tail, (size_t)rest, ncclFloat32, last, m->comm, m->stream));
    nccl_end(d);
}

static void nccl_bcast(comm_data_t *d, float *v, int64_t n, int root) {
    nccl_t *m = (nccl_t *)d;
    POST(m, "broadcast", ncclBroadcast(v, v, (size_t)n, ncclFloat32, root, m->comm, m->stream));
}

static void nccl_send(comm_data_t *d, const float *v, int64_t n, int to) {
    nccl_t *m = (nccl_t *)d;
    POST(m, "send", ncclSend(v, (size_t)n, ncclFloat32, to, m->comm, m->stream));
}

static void nccl_recv(comm_data_t *d, float *v, int64_t n, int from) {
    nccl_t *m = (nccl_t *)d;
    POST(m, "receive", ncclRecv(v, (size_t)n, ncclFloat32, from, m->comm, m->stream));
}

/* ---- the watch: another thread -------------------------------------------------------------------------------------
 */

/* Under the lock. */
static status_t look(nccl_t *n) {
    ncclResult_t state = ncclSuccess;
    const char *op = atomic_load(&n->op);
    TRY(check_nccl(n, ncclCommGetAsyncError(n->comm, &state), op));
    TRY(check_nccl(n, state, op));
    if (!n->pending) return ST_OK;
    cudaError_t rc = cudaEventQuery(n->done);
    if (rc == cudaErrorNotReady) {
        (void)cudaGetLastError();
        return comm_now_ns() - atomic_load(&n->since_ns) > n->limit_ns ? too_late(n, op) : ST_OK;
    }
    n->pending = false;
    return check_cuda(rc, op);
}

static void nccl_check(comm_data_t *d) {
    nccl_t *n = (nccl_t *)d;
    pthread_mutex_lock(&n->lock);
    status_t st = look(n);
    pthread_mutex_unlock(&n->lock);
    must(n, st);
}

static status_t nccl_health(void *arg) {
    nccl_t *n = arg;
    /* this thread's own settings; a recording of the device's stream must not fail because it asks about an event */
    enum cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    TRY(check_cuda(cudaSetDevice(n->base.device->ordinal), "cudaSetDevice"));
    TRY(check_cuda(cudaThreadExchangeStreamCaptureMode(&mode), "cudaThreadExchangeStreamCaptureMode"));
    if (pthread_mutex_trylock(&n->lock)) {
        int64_t late = comm_now_ns() - atomic_load(&n->since_ns) - n->limit_ns;
        return late > 0 ? too_late(n, atomic_load(&n->op)) : ST_OK;
    }
    status_t st = look(n);
    pthread_mutex_unlock(&n->lock);
    return st;
}

/* The process ends next. The lock is never given back, so that the other thread does not use what is gone; it is not
 * waited for long, as who holds it may be stuck inside NCCL, which this ends. */
static void nccl_abort(void *arg) {
    nccl_t *n = arg;
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += LOCK_NS;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    (void)pthread_mutex_timedlock(&n->lock, &until);
    (void)ncclCommAbort(n->comm);
}

/* ---- open and close ------------------------------------------------------------------------------------------------
 */

/* Whether another rank has this rank's device: the same node and bus. */
static status_t find_sharing(comm_t *c, const device_t *device, bool *shared) {
    char mine[BUS_BYTES] = "", *bus = NULL;
    void *p = NULL;
    status_t st = check_cuda(cudaDeviceGetPCIBusId(mine, sizeof mine, device->ordinal), "cudaDeviceGetPCIBusId");
    if (st == ST_OK) st = buf_calloc(&p, c->size, BUS_BYTES + sizeof(int32_t), "devices of the ranks");
    TRY_GOTO(comm_agree(c, st), done);
    int32_t *node = p;
    node[c->rank] = c->node;
    TRY_GOTO(comm_sum_i32(c, node, c->size), done);
    bus = (char *)(node + c->size);
    for (int r = 0; r < c->size; r++) {
        char *theirs = bus + (size_t)r * BUS_BYTES;
        if (r == c->rank) memcpy(theirs, mine, sizeof mine);
        TRY_GOTO(comm_bcast(c, theirs, BUS_BYTES, r), done);
        if (r != c->rank && node[r] == c->node && !memcmp(theirs, mine, sizeof mine)) *shared = true;
    }
done:
    free(p);
    return st;
}

/* NCCL refuses two ranks that are on one node and one bus; to it they are on two nodes then. */
static status_t allow_sharing(const comm_t *c, const comm_data_options_t *o) {
    char id[64];
    if (!o->share_device)
        return st_raise(ST_USAGE, "device",
                        "rank %d shares %s with another rank; start one rank per GPU, or set share_device: true",
                        c->rank, o->device->name);
    snprintf(id, sizeof id, "graft-%d-%d", c->node, c->rank);
    if (setenv("NCCL_HOSTID", id, 0)) return st_nomem("NCCL_HOSTID", sizeof id);
    return ST_OK;
}

static status_t open_queue(nccl_t *n) {
    TRY(check_cuda(cudaSetDevice(n->base.device->ordinal), "cudaSetDevice"));
    TRY(check_cuda(cudaStreamCreateWithFlags(&n->stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags"));
    TRY(check_cuda(cudaEventCreateWithFlags(&n->ready, cudaEventDisableTiming), "cudaEventCreateWithFlags"));
    return check_cuda(cudaEventCreateWithFlags(&n->done, cudaEventDisableTiming), "cudaEventCreateWithFlags");
}

/* Threads of these versions can wait for each other for ever. */
static status_t look_at_version(const nccl_t *n) {
    int version = 0;
    TRY(check_nccl(n, ncclGetVersion(&version), "ncclGetVersion"));
    if (n->base.comm->rank == 0 && version >= 22803 && version <= 22808)
        fprintf(stderr, "graft: warning: NCCL %d.%d.%d is known to hang; use 2.28.9 or later\n", version / 10000,
                version / 100 % 100, version % 100);
    return ST_OK;
}

/* All ranks meet in here. */
static status_t connect(nccl_t *n) {
    comm_t *c = n->base.comm;
    ncclUniqueId id;
    memset(&id, 0, sizeof id);
    status_t st = look_at_version(n);
    if (st == ST_OK && !c->rank) st = check_nccl(n, ncclGetUniqueId(&id), "ncclGetUniqueId");
    TRY(comm_agree(c, st));
    TRY(comm_bcast(c, &id, sizeof id, 0));
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    ncclResult_t rc = ncclCommInitRankConfig(&n->comm, c->size, id, c->rank, &config);
    return comm_agree(c, settle(n, rc, "the start of NCCL"));
}

/* Local. After a failure nothing of the others is waited for. */
static status_t release(nccl_t *n, status_t st) {
    if (n->comm && st != ST_OK) (void)ncclCommAbort(n->comm);
    if (n->comm && st == ST_OK) {
        KEEP(st, settle(n, ncclCommFinalize(n->comm), "the end of NCCL"));
        KEEP(st, check_nccl(n, ncclCommDestroy(n->comm), "ncclCommDestroy"));
    }
    cudaError_t done = n->done ? cudaEventDestroy(n->done) : cudaSuccess;
    cudaError_t ready = n->ready ? cudaEventDestroy(n->ready) : cudaSuccess;
    cudaError_t stream = n->stream ? cudaStreamDestroy(n->stream) : cudaSuccess;
    KEEP(st, check_cuda(done, "cudaEventDestroy"));
    KEEP(st, check_cuda(ready, "cudaEventDestroy"));
    KEEP(st, check_cuda(stream, "cudaStreamDestroy"));
    pthread_mutex_destroy(&n->lock);
    free(n);
    return st;
}

static void nccl_close(comm_data_t *d) {
    nccl_t *n = (nccl_t *)d;
    comm_t *c = d->comm;
    status_t st = comm_guard(c, NULL);
    if (st == ST_OK) st = release(n, st);
    if (st != ST_OK) comm_die(c, st);
}

static const comm_data_ops_t nccl_ops = {.name = "NCCL",
                                         .close = nccl_close,
                                         .allreduce = nccl_allreduce,
                                         .reduce_scatter = nccl_reduce_scatter,
                                         .all_gather = nccl_all_gather,
                                         .bcast = nccl_bcast,
                                         .send = nccl_send,
                                         .recv = nccl_recv,
                                         .begin = nccl_begin,
                                         .end = nccl_end,
                                         .join = nccl_join,
                                         .check = nccl_check};

status_t comm_nccl_open(comm_t *c, const comm_data_options_t *o, comm_data_t **out) {
    bool shared = false;
    void *p = NULL;
    TRY(find_sharing(c, o->device, &shared));
    status_t st = shared ? allow_sharing(c, o) : ST_OK;
    if (st == ST_OK) st = buf_calloc(&p, 1, sizeof(nccl_t), "data communicator");
    nccl_t *n = p;
    if (st == ST_OK) {
        n->base = (comm_data_t){.ops = &nccl_ops, .comm = c, .device = o->device};
        n->limit_ns = (int64_t)(o->seconds > 0 ? o->seconds : COMM_DATA_SECONDS) * 1000000000;
        pthread_mutex_init(&n->lock, NULL);
        st = open_queue(n);
    }
    st = comm_agree(c, st);
    if (st == ST_OK) st = connect(n);
    if (st == ST_OK) {
        st = comm_agree(c, comm_guard(c, &(comm_guard_t){nccl_health, nccl_abort, n}));
        if (st != ST_OK) (void)comm_guard(c, NULL);
    }
    if (st != ST_OK) return n ? release(n, st) : st;
    *out = &n->base;
    return ST_OK;
}
