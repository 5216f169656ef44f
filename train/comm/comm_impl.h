/* Inside train/comm only: what a transport must provide (comm_self.c for one process, comm_mpi.c for MPI ranks), and
 * the fields that all transports share. Everything but this table is written once, in comm.c. */
#pragma once
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"
#include "train/comm/comm.h"

typedef enum comm_reduction { COMM_SUM_F64, COMM_SUM_F32, COMM_SUM_I32, COMM_MAX_I64 } comm_reduction_t;

typedef struct comm_ops {
    void (*close)(comm_t *c);                                                 /* collective; frees c */
    status_t (*reduce)(comm_t *c, comm_reduction_t kind, void *v, int64_t n); /* collective, in place, n items */
    status_t (*reduce_to)(comm_t *c, float *v, int64_t n, int root);          /* collective: the sum, on root alone */
    status_t (*bcast)(comm_t *c, void *bytes, int64_t n, int root);           /* collective */
    status_t (*barrier)(comm_t *c);                                           /* collective */
    status_t (*send)(comm_t *c, const float *v, int64_t n, int to);           /* n floats */
    status_t (*recv)(comm_t *c, float *v, int64_t n, int from);               /* n floats */
    void (*abort)(comm_t *c, int code);                                       /* local, from any thread; may return */
} comm_ops_t;

/* What the watchdog looks after for the data communicator. */
typedef struct comm_guard {
    status_t (*health)(void *arg); /* called by the watching thread every second: not ST_OK ends the job */
    void (*abort)(void *arg);      /* called when the job ends, from any thread; may hang */
    void *arg;
} comm_guard_t;

typedef struct comm_watch {
    pthread_t thread;
    pthread_mutex_t mutex; /* guards stop */
    pthread_cond_t wake;
    bool running, stop;
    int seconds;                 /* 0: nothing is expected of beats */
    comm_guard_t guard;          /* health NULL: none */
    atomic_flag ending;          /* the first thread to end the job does it alone */
    _Atomic int64_t beat_ns;     /* monotonic clock at the last beat */
    _Atomic(const char *) place; /* of the last beat */
} comm_watch_t;

struct comm {
    const comm_ops_t *ops;
    int rank, size, local_rank, local_size;
    int node; /* the rank of this node's first rank */
    int threads;
    comm_watch_t watch;
};

/* Transports: each allocates its own struct whose first member is comm_t. */
status_t comm_self_open(comm_t **out);
/* launched: ranks the launcher's variables promise, 0 when they do not say. */
status_t comm_mpi_open(int launched, comm_t **out);

/* This process's affinity mask. *local* */
void threads_mask(cpu_set_t *mask);
/* Cores of `mask` when users[cpu] local ranks share each; OMP_NUM_THREADS wins. At least 1. *local* */
int threads_share(const cpu_set_t *mask, const int32_t users[CPU_SETSIZE]);

int64_t comm_now_ns(void); /* monotonic */
/* The place of the last beat, for messages. */
const char *comm_place(const comm_t *c);
/* Lets the watchdog look after *guard (copied), NULL: no longer. */
status_t comm_guard(comm_t *c, const comm_guard_t *guard);
/* Prints the error chain and ends the job with its exit code through the transport, and this process by _exit when that
 * has not worked within seconds. */
_Noreturn void comm_end(comm_t *c, status_t st);
void comm_watch_stop(comm_t *c);
