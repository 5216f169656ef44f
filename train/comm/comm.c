#include "train/comm/comm.h"
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "train/comm/comm_impl.h"

enum { AGREED_BYTES = 2048 }; /* room for one error chain */

/* Value of a launcher's variable: -1 when it is not set or no number. */
static long variable(const char *name) {
    const char *s = getenv(name);
    if (!s || !s[0]) return -1;
    char *end = NULL;
    long v = strtol(s, &end, 10);
    return *end ? -1 : v;
}

status_t comm_open(comm_t **out) {
    long promised = variable("OMPI_COMM_WORLD_SIZE");
    if (promised < 0) promised = variable("PMI_SIZE");
    bool launched = promised >= 0 || variable("PMIX_RANK") >= 0 || variable("PMI_RANK") >= 0;
    long tasks = variable("SLURM_STEP_NUM_TASKS");
    if (promised < 0 && variable("SLURM_PROCID") >= 0) promised = tasks;
    if (launched) return comm_mpi_open(promised > 0 && promised <= INT32_MAX ? (int)promised : 0, out);
    /* Independent processes that all believe to be rank 0 would write over each other's files. */
    if (tasks > 1 && variable("SLURM_PROCID") >= 0)
        return st_raise(ST_COMM, "srun", "%ld tasks were started without MPI support; use srun --mpi=pmix or mpirun",
                        tasks);
    return comm_self_open(out);
}

void comm_close(comm_t *c) {
    if (!c) return;
    comm_watch_stop(c);
    c->ops->close(c);
}

int comm_rank(const comm_t *c) {
    return c->rank;
}
int comm_size(const comm_t *c) {
    return c->size;
}
int comm_local_rank(const comm_t *c) {
    return c->local_rank;
}
int comm_local_size(const comm_t *c) {
    return c->local_size;
}
int comm_threads(const comm_t *c) {
    return c->threads;
}

status_t comm_agree(comm_t *c, status_t mine) {
    if (c->size == 1) return mine;
    struct {
        int32_t code;
        char message[AGREED_BYTES];
    } said = {.code = (int32_t)mine};
    if (mine != ST_OK) snprintf(said.message, sizeof said.message, "%s", st_message());
    int64_t first = mine == ST_OK ? -c->size : -c->rank; /* the greatest is the lowest failing rank */
    status_t st = c->ops->reduce(c, COMM_MAX_I64, &first, 1);
    if (st == ST_OK && first == -c->size) return ST_OK;
    if (st == ST_OK) st = c->ops->bcast(c, &said, sizeof said, (int)-first);
    /* An agreement that fails on one rank cannot be told to the others. */
    if (st != ST_OK) comm_die(c, st);
    said.message[sizeof said.message - 1] = 0;
    if (said.code <= ST_OK || said.code >= ST_COUNT) {
        st = st_raise(ST_INTERNAL, "comm_agree", "rank %d sent status %d", (int)-first, said.code);
        comm_die(c, st);
    }
    return st_adopt((status_t)said.code, said.message);
}

status_t comm_sum_f64(comm_t *c, double *v, int64_t n) {
    return c->ops->reduce(c, COMM_SUM_F64, v, n);
}
status_t comm_max_i64(comm_t *c, int64_t *v, int64_t n) {
    return c->ops->reduce(c, COMM_MAX_I64, v, n);
}
status_t comm_sum_i32(comm_t *c, int32_t *v, int64_t n) {
    return c->ops->reduce(c, COMM_SUM_I32, v, n);
}
status_t comm_barrier(comm_t *c) {
    return c->ops->barrier(c);
}

status_t comm_bcast(comm_t *c, void *bytes, int64_t n, int root) {
    assert(n >= 0 && root >= 0 && root < c->size);
    return c->ops->bcast(c, bytes, n, root);
}

status_t comm_send_f32(comm_t *c, const float *v, int64_t n, int to) {
    assert(n >= 0 && to >= 0 && to < c->size);
    return c->ops->send(c, v, n, to);
}

status_t comm_recv_f32(comm_t *c, float *v, int64_t n, int from) {
    assert(n >= 0 && from >= 0 && from < c->size);
    return c->ops->recv(c, v, n, from);
}

_Noreturn void comm_die(comm_t *c, status_t st) {
    if (c && c->size > 1) st_context(st, "rank %d", c->rank);
    comm_end(c, st);
}
