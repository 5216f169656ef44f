/* Communication between ranks: decisions, counts and statuses. Gradients and weights go through the data communicator
 * (comm_data.h). One rank needs no MPI: comm_open starts MPI only when a launcher did (mpirun or srun set their own
 * variables) and otherwise uses the single-process table, so that `graft train` runs without mpirun.
 *
 * Between two collectives nobody returns early: record the status, take part, comm_agree, then act alike.
 * What cannot reach the next agreement calls comm_die, which prints the error chain with the rank and MPI_Aborts. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct comm comm_t;

/* *collective* (MPI_Init when launched). Errors: ST_COMM. */
status_t comm_open(comm_t **out);
/* The MPI library and its version, for people. *local* */
void comm_library(char *text, size_t size);
/* *collective*: MPI_Finalize. Only after an agreement. */
void comm_close(comm_t *c);
int comm_rank(const comm_t *c);
int comm_size(const comm_t *c);
int comm_local_rank(const comm_t *c); /* among the ranks of this node */
int comm_local_size(const comm_t *c);
/* Cores this rank should use: its affinity mask when it is bound, else the node's cores shared out among the local
 * ranks, at least 1. OMP_NUM_THREADS, when set, wins. *local* */
int comm_threads(const comm_t *c);

/* *collective*: every rank brings its status; all leave with the same one: ST_OK, or the status of the lowest failing
 * rank with its message adopted (so that any rank can print it). */
status_t comm_agree(comm_t *c, status_t mine); /* a communication failure inside ends the job */
/* *collective*, in place; integers and sums of zeros and one value are exact. */
status_t comm_sum_f64(comm_t *c, double *v, int64_t n);
status_t comm_max_i64(comm_t *c, int64_t *v, int64_t n);
status_t comm_sum_i32(comm_t *c, int32_t *v, int64_t n);
status_t comm_bcast(comm_t *c, void *bytes, int64_t n, int root);
status_t comm_barrier(comm_t *c);
/* Point to point; tag order is program order. */
status_t comm_send_f32(comm_t *c, const float *v, int64_t n, int to);
status_t comm_recv_f32(comm_t *c, float *v, int64_t n, int from);

/* *local*: the end of everything after a failure that others cannot learn of in time. Does not return. */
_Noreturn void comm_die(comm_t *c, status_t st);

/* Watchdog thread: when comm_beat is not called for `seconds`, prints the place given at the last beat and the rank,
 * then ends the job (exit code 1). 0 stops it. `place` is kept, not copied: a string literal. *local* */
status_t comm_watchdog(comm_t *c, int seconds);
void comm_beat(comm_t *c, const char *place);
