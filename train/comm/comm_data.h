/* The data communicator: moves and sums vectors of floats between ranks, beside the control communicator (comm.h),
 * which stays on MPI. Three kinds behind one table: none for one rank, MPI for vectors of the host, NCCL for vectors of
 * a device, one rank per device.
 *
 * With NCCL an operation goes into the communicator's own queue, behind all that the device's queue has been given so
 * far; comm_data_join puts the device's queue behind all operations. In between the device goes on with other work, and
 * the vectors of the operations belong to them. On the host everything is done when a call returns: MPI moves data
 * while it is called, so without a thread of its own for it nothing would be gained by not waiting. Nothing waits for
 * the device.
 *
 * Every rank calls the same collectives in the same order. A failure cannot be told to the others in time, so after
 * comm_data_open nothing returns one: an error, also an asynchronous one, or an operation that does not end within
 * `seconds`, ends the job (comm_die) and names the operation and the place of the last comm_beat. A thread watches, so
 * that it does not matter where the rank waits. Call from one thread. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/device.h"
#include "train/comm/comm.h"

typedef struct comm_data comm_data_t;

enum { COMM_DATA_SECONDS = 300 }; /* ranks have agreed right before an operation, so its wait is the network's alone */

typedef struct comm_data_options {
    device_t *device;  /* whose memory the vectors are in; outlives the communicator. NULL: the host's */
    bool share_device; /* several ranks on one device are no error */
    int seconds;       /* limit of one operation; 0: COMM_DATA_SECONDS */
} comm_data_options_t;

/* *collective*; all ranks return alike. At most one of a comm_t is open. Errors: ST_USAGE when ranks share a device
 * unasked; ST_COMM. */
status_t comm_data_open(comm_t *c, const comm_data_options_t *o, comm_data_t **out);
/* *collective*: only after an agreement and before the device is closed. NULL is nothing. */
void comm_data_close(comm_data_t *d);
const char *comm_data_name(const comm_data_t *d); /* "none", "MPI" or "NCCL" */
comm_t *comm_data_control(const comm_data_t *d);
device_t *comm_data_device(const comm_data_t *d);

/* The share [*first, *first + *count) of `rank` of a vector of n: equal multiples of 32 floats, so that all begin
 * aligned; the last rank has the rest. *local* */
void comm_data_share(int64_t n, int size, int rank, int64_t *first, int64_t *count);

/* *collective*, in place. Sums depend on the number of ranks in their last bits.
 * all-reduce: v = the sum over ranks.
 * reduce-scatter: this rank's share of v = the sum over ranks, of which the elements at .. at + count - 1 are done now;
 *   the others' shares of them have no meaning after it.
 * all-gather: every share of v = that of the rank that it belongs to.
 * broadcast: v = the root's. */
void comm_data_allreduce(comm_data_t *d, float *v, int64_t n);
void comm_data_reduce_scatter(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count);
void comm_data_all_gather(comm_data_t *d, float *v, int64_t n);
void comm_data_bcast(comm_data_t *d, float *v, int64_t n, int root);
/* Point to point between two different ranks. All ranks follow one total order of messages (tree_plan.h), so that no
 * circle of waiting ranks can come about. */
void comm_data_send(comm_data_t *d, const float *v, int64_t n, int to);
void comm_data_recv(comm_data_t *d, float *v, int64_t n, int from);
/* Operations between begin and end are one on a device, none of which waits for another; on the host they happen in
 * their order. */
void comm_data_begin(comm_data_t *d);
void comm_data_end(comm_data_t *d);
/* Puts the device's queue behind all operations so far. *local* */
void comm_data_join(comm_data_t *d);
/* Ends the job when an operation so far is known to have failed: before what came of it is reported or saved, as the
 * watching thread may not have looked meanwhile. *local* */
void comm_data_check(comm_data_t *d);
