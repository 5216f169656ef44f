/* The MPI transport, and the only file that knows MPI. Errors are returned, not fatal inside MPI, so that they are
 * reported in Graft's words; counts beyond an int are sent in pieces of at most 2^30 items. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "kernels/buf.h"
#include "train/comm/comm_impl.h"

#define PIECE ((int64_t)1 << 30)
enum { TAG = 1 }; /* one tag: the order of messages between two ranks is program order */

typedef struct mpi {
    comm_t base; /* first: comm_t * and mpi_t * are the same address */
    MPI_Comm world;
    bool any_thread; /* MPI may be called from the watchdog */
} mpi_t;

static status_t check(int rc, const char *call) {
    if (rc == MPI_SUCCESS) return ST_OK;
    char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
    int len = 0;
    if (MPI_Error_string(rc, text, &len) == MPI_SUCCESS && len >= 0 && len <= MPI_MAX_ERROR_STRING) text[len] = 0;
    return st_raise(ST_COMM, call, "%s; see the other ranks' messages", text);
}

static int piece(int64_t n, int64_t done) {
    return (int)(n - done < PIECE ? n - done : PIECE);
}

void comm_library(char *text, size_t size) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "unknown";
    int len = 0;
    if (MPI_Get_library_version(version, &len) != MPI_SUCCESS || len < 0) len = 0;
    version[strcspn(version, ",\n")] = 0;
    snprintf(text, size, "%s", version);
}

static void mpi_close(comm_t *c) {
    mpi_t *m = (mpi_t *)c;
    MPI_Comm_free(&m->world);
    MPI_Finalize();
    free(m);
}

static status_t mpi_reduce(comm_t *c, comm_reduction_t kind, void *v, int64_t n) {
    mpi_t *m = (mpi_t *)c;
    MPI_Datatype type = MPI_DOUBLE;
    MPI_Op op = MPI_SUM;
    size_t size = sizeof(double);
    switch (kind) {
    case COMM_SUM_F64:
        break;
    case COMM_SUM_F32:
        type = MPI_FLOAT, size = sizeof(float);
        break;
    case COMM_SUM_I32:
        type = MPI_INT32_T, size = sizeof(int32_t);
        break;
    case COMM_MAX_I64:
        type = MPI_INT64_T, size = sizeof(int64_t), op = MPI_MAX;
        break;
    }
    for (int64_t done = 0; done < n; done += PIECE)
        TRY(check(MPI_Allreduce(MPI_IN_PLACE, (char *)v + (size_t)done * size, piece(n, done), type, op, m->world),
                  "MPI_Allreduce"));
    return ST_OK;
}

static status_t mpi_reduce_to(comm_t *c, float *v, int64_t n, int root) {
    mpi_t *m = (mpi_t *)c;
    bool mine = c->rank == root;
    for (int64_t done = 0; done < n; done += PIECE)
        TRY(check(MPI_Reduce(mine ? MPI_IN_PLACE : v + done, mine ? v + done : NULL, piece(n, done), MPI_FLOAT, MPI_SUM,
                             root, m->world),
                  "MPI_Reduce"));
    return ST_OK;
}

static status_t mpi_bcast(comm_t *c, void *bytes, int64_t n, int root) {
    mpi_t *m = (mpi_t *)c;
    for (int64_t done = 0; done < n; done += PIECE)
        TRY(check(MPI_Bcast((char *)bytes + done, piece(n, done), MPI_BYTE, root, m->world), "MPI_Bcast"));
    return ST_OK;
}

static status_t mpi_barrier(comm_t *c) {
    return check(MPI_Barrier(((mpi_t *)c)->world), "MPI_Barrier");
}

static status_t mpi_send(comm_t *c, const float *v, int64_t n, int to) {
    mpi_t *m = (mpi_t *)c;
    for (int64_t done = 0; done < n; done += PIECE)
        TRY(check(MPI_Send(v + done, piece(n, done), MPI_FLOAT, to, TAG, m->world), "MPI_Send"));
    return ST_OK;
}

static status_t mpi_recv(comm_t *c, float *v, int64_t n, int from) {
    mpi_t *m = (mpi_t *)c;
    for (int64_t done = 0; done < n; done += PIECE) {
        int want = piece(n, done), got = -1;
        MPI_Status status;
        TRY(check(MPI_Recv(v + done, want, MPI_FLOAT, from, TAG, m->world, &status), "MPI_Recv"));
        TRY(check(MPI_Get_count(&status, MPI_FLOAT, &got), "MPI_Get_count"));
        if (got != want) return st_raise(ST_COMM, "MPI_Recv", "rank %d sent %d floats, %d expected", from, got, want);
    }
    return ST_OK;
}

static void mpi_abort(comm_t *c, int code) {
    const mpi_t *m = (const mpi_t *)c;
    /* Without thread support another thread may be inside MPI; the launcher ends the job when this process is gone. */
    if (m->any_thread) MPI_Abort(MPI_COMM_WORLD, code);
}

static const comm_ops_t mpi_ops = {.close = mpi_close,
                                   .reduce = mpi_reduce,
                                   .reduce_to = mpi_reduce_to,
                                   .bcast = mpi_bcast,
                                   .barrier = mpi_barrier,
                                   .send = mpi_send,
                                   .recv = mpi_recv,
                                   .abort = mpi_abort};

/* Rank and size on this node, and this rank's share of its cores. */
static status_t node(mpi_t *m) {
    MPI_Comm local;
    TRY(check(MPI_Comm_split_type(m->world, MPI_COMM_TYPE_SHARED, m->base.rank, MPI_INFO_NULL, &local),
              "MPI_Comm_split_type"));
    cpu_set_t mask;
    threads_mask(&mask);
    int32_t users[CPU_SETSIZE];
    for (int i = 0; i < CPU_SETSIZE; i++) users[i] = CPU_ISSET(i, &mask) ? 1 : 0;
    status_t st = check(MPI_Comm_rank(local, &m->base.local_rank), "MPI_Comm_rank");
    if (st == ST_OK) st = check(MPI_Comm_size(local, &m->base.local_size), "MPI_Comm_size");
    if (st == ST_OK)
        st = check(MPI_Allreduce(MPI_IN_PLACE, users, CPU_SETSIZE, MPI_INT32_T, MPI_SUM, local), "MPI_Allreduce");
    m->base.node = m->base.rank;
    if (st == ST_OK) st = check(MPI_Bcast(&m->base.node, 1, MPI_INT, 0, local), "MPI_Bcast");
    MPI_Comm_free(&local);
    m->base.threads = threads_share(&mask, users);
    return st;
}

static status_t start(mpi_t *m, int launched) {
    int level = MPI_THREAD_SINGLE;
    TRY(check(MPI_Init_thread(NULL, NULL, MPI_THREAD_MULTIPLE, &level), "MPI_Init_thread"));
    m->any_thread = level == MPI_THREAD_MULTIPLE;
    TRY(check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    TRY(check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "MPI_Comm_dup"));
    TRY(check(MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler"));
    TRY(check(MPI_Comm_rank(m->world, &m->base.rank), "MPI_Comm_rank"));
    TRY(check(MPI_Comm_size(m->world, &m->base.size), "MPI_Comm_size"));
    /* A launcher of another MPI leaves every process alone as rank 0 of 1. */
    if (launched > 0 && launched != m->base.size)
        return st_raise(
            ST_COMM, "MPI_Init",
            "the launcher started %d ranks but MPI sees %d; use the mpirun of the MPI that graft is linked to",
            launched, m->base.size);
    return node(m);
}

status_t comm_mpi_open(int launched, comm_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(mpi_t), "communicator"));
    mpi_t *m = p;
    m->base.ops = &mpi_ops;
    /* After MPI_Init others may already wait for this rank, so a failure here ends the job. */
    status_t st = start(m, launched);
    if (st != ST_OK) comm_die(&m->base, st);
    *out = &m->base;
    return ST_OK;
}
