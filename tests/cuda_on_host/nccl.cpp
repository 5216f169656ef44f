#include <cuda_runtime.h>
#include <nccl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <deque>
#include <vector>
#include "tests/cuda_on_host/mailbox.hpp"
#include "tests/cuda_on_host/memory.hpp"

using on_host::mailbox_t;
typedef std::vector<float> floats_t;

enum kind_t { SEND, RECV, BROADCAST, REDUCE, ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER };

/* What both ends say of a message: they must say the same. A receive is the send that it waits for. */
struct head_t {
    int kind;
    unsigned long long count;
};

struct message_t {
    head_t head, theirs;
    float *data;
    size_t done; /* bytes of head and data */
};

struct op_t {
    kind_t kind;
    float *to;
    size_t count;
    int peer; /* root, partner */
    cudaStream_t stream;
    floats_t mine;              /* what this rank brings */
    std::vector<floats_t> come; /* [ranks]: what came from each */
};

struct ncclComm {
    int rank, ranks, device;
    char name[128], last[256];
    mailbox_t *box;
    bool met;
    ncclResult_t error;
    std::deque<op_t> ops; /* begun and not ended; addresses stay */
    std::vector<std::deque<message_t>> out, in;
    long ended, fault_after; /* operations; -1: no fault */
    bool fault_stalls;
};

static thread_local int depth;
static thread_local std::vector<ncclComm_t> grouped; /* with operations of the open group */

static ncclResult_t fail(ncclComm_t c, ncclResult_t e, const char *format, ...) __attribute__((format(printf, 3, 4)));
static ncclResult_t fail(ncclComm_t c, ncclResult_t e, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(c->last, sizeof c->last, format, args);
    va_end(args);
    return c->error = e;
}

/* ---- messages ---------------------------------------------------------------------------------------------------- */

/* Carries on with the first message of a queue; true: it has gone or come. */
template <class Move> static bool carry(message_t &m, head_t &head, Move move) {
    size_t all = sizeof(head_t) + m.head.count * sizeof(float);
    while (m.done < all) {
        bool in_head = m.done < sizeof(head_t);
        char *at = in_head ? (char *)&head + m.done : (char *)m.data + (m.done - sizeof(head_t));
        size_t n = move(at, (in_head ? sizeof(head_t) : all) - m.done);
        if (!n) return false;
        m.done += n;
        if (in_head && m.done == sizeof(head_t) && (head.kind != m.head.kind || head.count != m.head.count))
            return true;
    }
    return true;
}

static void move_messages(ncclComm_t c, int peer) {
    while (!c->out[peer].empty()) {
        message_t &m = c->out[peer].front();
        on_host::ring_t *r = &c->box->ring[c->rank][peer];
        if (!carry(m, m.head, [&](char *p, size_t n) { return on_host::ring_write(r, p, n); })) break;
        c->out[peer].pop_front();
    }
    while (!c->in[peer].empty()) {
        message_t &m = c->in[peer].front();
        on_host::ring_t *r = &c->box->ring[peer][c->rank];
        if (!carry(m, m.theirs, [&](char *p, size_t n) { return on_host::ring_read(r, p, n); })) break;
        if (m.theirs.kind != m.head.kind || m.theirs.count != m.head.count) {
            fail(c, ncclInvalidUsage, "rank %d calls kind %d with %llu items and rank %d kind %d with %llu", c->rank,
                 m.head.kind, m.head.count, peer, m.theirs.kind, m.theirs.count);
            return;
        }
        c->in[peer].pop_front();
    }
}

static void send(ncclComm_t c, op_t &op, int peer, size_t first, size_t count) {
    c->out[peer].push_back({{op.kind, count}, {}, op.mine.data() + first, 0});
}

static void receive(ncclComm_t c, op_t &op, int peer, size_t count) {
    op.come[peer].resize(count);
    c->in[peer].push_back({{op.kind == RECV ? SEND : op.kind, count}, {}, op.come[peer].data(), 0});
}

/* ---- operations ---------------------------------------------------------------------------------------------------
 */

static void exchange(ncclComm_t c, op_t &op) {
    for (int peer = 0; peer < c->ranks; peer++) {
        if (peer == c->rank) continue;
        bool to = false, from = false;
        switch (op.kind) {
        case SEND:
            to = peer == op.peer;
            break;
        case RECV:
            from = peer == op.peer;
            break;
        case BROADCAST:
            to = c->rank == op.peer;
            from = peer == op.peer;
            break;
        case REDUCE:
            to = peer == op.peer;
            from = c->rank == op.peer;
            break;
        case ALL_REDUCE:
        case REDUCE_SCATTER:
        case ALL_GATHER:
            to = from = true;
            break;
        }
        if (to) send(c, op, peer, op.kind == REDUCE_SCATTER ? peer * op.count : 0, op.count);
        if (from) receive(c, op, peer, op.count);
    }
}

/* This rank's part of what it brings stands for what came from itself. */
static void own(ncclComm_t c, op_t &op) {
    size_t first = op.kind == REDUCE_SCATTER ? c->rank * op.count : 0;
    op.come[c->rank].assign(op.mine.begin() + first, op.mine.begin() + first + op.count);
}

static floats_t sum(ncclComm_t c, const op_t &op) {
    floats_t all(op.count, 0.0f);
    for (int peer = 0; peer < c->ranks; peer++)
        for (size_t i = 0; i < op.count; i++) all[i] += op.come[peer][i];
    return all;
}

/* In the stream, as late as that is. */
static void store(const op_t &op, size_t at, const floats_t &v) {
    float *to = op.to + at;
    if (v.empty()) return;
    if (!on_host::memory_has(to, v.size() * sizeof(float))) on_host::fail("NCCL writes outside of device memory");
    on_host::enqueue(op.stream, [=] { memcpy(to, v.data(), v.size() * sizeof(float)); });
}

static void finish(ncclComm_t c, op_t &op) {
    switch (op.kind) {
    case SEND:
        break;
    case RECV:
        store(op, 0, op.come[op.peer]);
        break;
    case BROADCAST:
        store(op, 0, op.peer == c->rank ? op.mine : op.come[op.peer]);
        break;
    case REDUCE:
        if (op.peer != c->rank) break;
        own(c, op);
        store(op, 0, sum(c, op));
        break;
    case ALL_REDUCE:
    case REDUCE_SCATTER:
        own(c, op);
        store(op, 0, sum(c, op));
        break;
    case ALL_GATHER:
        own(c, op);
        for (int peer = 0; peer < c->ranks; peer++) store(op, peer * op.count, op.come[peer]);
        break;
    }
    c->ended++;
}

/* The other ranks wait for this one. */
static bool stalls(ncclComm_t c) {
    if (!c->fault_stalls || c->fault_after < 0 || c->ended < c->fault_after) return false;
    for (op_t &op : c->ops) on_host::stall(op.stream);
    c->ops.clear();
    for (int peer = 0; peer < c->ranks; peer++) {
        c->out[peer].clear();
        c->in[peer].clear();
    }
    return true;
}

static void carry_on(ncclComm_t c) {
    if (c->ops.empty() || stalls(c)) return;
    bool open = false;
    for (int peer = 0; peer < c->ranks && c->error == ncclSuccess; peer++) {
        move_messages(c, peer);
        open |= !c->out[peer].empty() || !c->in[peer].empty();
    }
    if (open || c->error != ncclSuccess) return;
    for (op_t &op : c->ops) finish(c, op);
    c->ops.clear();
}

/* For tests of which operations there are. */
static void tell(ncclComm_t c, kind_t kind, size_t count) {
    static const char *const name[] = {"send",       "receive",        "broadcast", "reduce",
                                       "all-reduce", "reduce-scatter", "all-gather"};
    static const char *const asked = getenv("NCCL_ON_HOST_TRACE");
    if (asked) fprintf(stderr, "nccl: rank %d %s %zu\n", c->rank, name[kind], count);
}

static ncclResult_t begin_op(ncclComm_t c, kind_t kind, const void *from, size_t brought, void *to, size_t count,
                             int peer, ncclDataType_t type, cudaStream_t s) {
    if (type != ncclFloat32 || peer < 0 || peer >= c->ranks || ((kind == SEND || kind == RECV) && peer == c->rank))
        return fail(c, ncclInvalidArgument, "an argument of kind %d", kind);
    cudaStreamCaptureStatus captured;
    if (!c->met || cudaStreamIsCapturing(s, &captured) != cudaSuccess || captured != cudaStreamCaptureStatusNone)
        return fail(c, ncclInvalidUsage, "kind %d at a time that is not provided for", kind);
    if (!depth && !c->ops.empty()) return fail(c, ncclInvalidUsage, "kind %d before the last call has ended", kind);
    c->ops.push_back({kind, (float *)to, count, peer, s, floats_t(brought), std::vector<floats_t>(c->ranks)});
    op_t &op = c->ops.back();
    /* what was put into the stream before, and what it waits for, is done first */
    if (cudaStreamSynchronize(s) != cudaSuccess) return fail(c, ncclUnhandledCudaError, "the stream of kind %d", kind);
    if (brought && cudaMemcpy(op.mine.data(), from, brought * sizeof(float), cudaMemcpyDeviceToHost) != cudaSuccess)
        return fail(c, ncclUnhandledCudaError, "the vector of kind %d", kind);
    exchange(c, op);
    tell(c, kind, count);
    if (!depth) return ncclInProgress;
    grouped.push_back(c);
    return ncclSuccess;
}

extern "C" {

ncclResult_t ncclGroupStart(void) {
    depth++;
    return ncclSuccess;
}

ncclResult_t ncclGroupEnd(void) {
    if (!depth) return ncclInvalidUsage;
    if (--depth || grouped.empty()) return ncclSuccess;
    grouped.clear();
    return ncclInProgress;
}

ncclResult_t ncclSend(const void *from, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s) {
    return begin_op(c, SEND, from, count, NULL, count, peer, type, s);
}
ncclResult_t ncclRecv(void *to, size_t count, ncclDataType_t type, int peer, ncclComm_t c, cudaStream_t s) {
    return begin_op(c, RECV, NULL, 0, to, count, peer, type, s);
}
ncclResult_t ncclBroadcast(const void *from, void *to, size_t count, ncclDataType_t type, int root, ncclComm_t c,
                           cudaStream_t s) {
    return begin_op(c, BROADCAST, from, c->rank == root ? count : 0, to, count, root, type, s);
}
ncclResult_t ncclReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, int root,
                        ncclComm_t c, cudaStream_t s) {
    return begin_op(c, REDUCE, from, count, to, count, root, type, s);
}
ncclResult_t ncclAllReduce(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t c,
                           cudaStream_t s) {
    return begin_op(c, ALL_REDUCE, from, count, to, count, 0, type, s);
}
ncclResult_t ncclReduceScatter(const void *from, void *to, size_t count, ncclDataType_t type, ncclRedOp_t, ncclComm_t c,
                               cudaStream_t s) {
    return begin_op(c, REDUCE_SCATTER, from, count * c->ranks, to, count, 0, type, s);
}
ncclResult_t ncclAllGather(const void *from, void *to, size_t count, ncclDataType_t type, ncclComm_t c,
                           cudaStream_t s) {
    return begin_op(c, ALL_GATHER, from, count, to, count, 0, type, s);
}

/* ---- communicators --------------------------------------------------------------------------------------------------
 */

ncclResult_t ncclGetVersion(int *version) {
    *version = 22809;
    return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id) {
    static int made;
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    memset(id, 0, sizeof *id);
    snprintf(id->internal, sizeof id->internal, "/nccl-on-host-%d-%d-%llx", (int)getpid(), made++,
             (unsigned long long)t.tv_sec * 1000000000ull + (unsigned long long)t.tv_nsec);
    return ncclSuccess;
}

static void read_fault(ncclComm_t c) {
    const char *text = getenv("NCCL_ON_HOST_FAULT");
    char kind[16];
    int rank;
    long after;
    c->fault_after = -1;
    if (!text || sscanf(text, "%d %15s %ld", &rank, kind, &after) != 3 || rank != c->rank) return;
    c->fault_after = after;
    c->fault_stalls = !strcmp(kind, "stall");
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config) {
    if (ranks > on_host::RANKS_MAX || rank < 0 || rank >= ranks || config->blocking) return ncclInvalidArgument;
    ncclComm_t c = *comm = new ncclComm();
    c->rank = rank;
    c->ranks = ranks;
    c->out.resize(ranks);
    c->in.resize(ranks);
    snprintf(c->name, sizeof c->name, "%s", id.internal);
    read_fault(c);
    c->box = on_host::mailbox_open(c->name);
    if (!c->box) return fail(c, ncclSystemError, "no shared memory");
    const char *host = getenv("NCCL_HOSTID");
    char bus[32];
    if (cudaGetDevice(&c->device) != cudaSuccess || cudaDeviceGetPCIBusId(bus, sizeof bus, c->device) != cudaSuccess)
        return fail(c, ncclUnhandledCudaError, "the present device");
    snprintf(c->box->place[rank], on_host::PLACE_BYTES, "%s %s", host ? host : "", bus);
    c->box->present[rank] = 1;
    return ncclInProgress;
}

static void meet(ncclComm_t c) {
    for (int r = 0; r < c->ranks; r++)
        if (!c->box->present[r]) return;
    for (int r = 0; r < c->ranks; r++)
        if (r != c->rank && !strcmp(c->box->place[r], c->box->place[c->rank]))
            fail(c, ncclInvalidUsage, "duplicate GPU: rank %d and rank %d are both on %s", c->rank, r,
                 c->box->place[r]);
    if (c->rank == 0) on_host::mailbox_forget(c->name);
    c->met = true;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t c, ncclResult_t *error) {
    if (c->error == ncclSuccess && !c->met) meet(c);
    if (c->error == ncclSuccess && c->ops.empty() && !c->fault_stalls && c->fault_after >= 0 &&
        c->ended >= c->fault_after)
        fail(c, ncclRemoteError, "a fault that was asked for");
    if (c->error == ncclSuccess) carry_on(c);
    *error = c->error != ncclSuccess ? c->error : c->met && c->ops.empty() ? ncclSuccess : ncclInProgress;
    return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t c) {
    return c->ops.empty() ? c->error : ncclInvalidUsage;
}

/* Kept, since another thread may be asking about it. */
ncclResult_t ncclCommAbort(ncclComm_t c) {
    fail(c, ncclInternalError, "aborted");
    return ncclSuccess;
}

ncclResult_t ncclCommDestroy(ncclComm_t c) {
    on_host::mailbox_close(c->box);
    delete c;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result) {
    static const char *const text[] = {"no error",
                                       "unhandled cuda error",
                                       "unhandled system error",
                                       "internal error",
                                       "invalid argument",
                                       "invalid usage",
                                       "remote process exited or there was a network error",
                                       "operation in progress"};
    return text[result];
}

const char *ncclGetLastError(ncclComm_t c) {
    return c ? c->last : "";
}

} /* extern "C" */
