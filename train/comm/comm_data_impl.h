/* Inside train/comm only: what a kind of data communicator provides. comm_data.c has the kinds for one rank and for the
 * host; comm_nccl.c the one for devices, in whose place a program without CUDA has comm_nccl_none.c. */
#pragma once
#include "train/comm/comm_data.h"

typedef struct comm_data_ops {
    const char *name;
    void (*close)(comm_data_t *d); /* collective; frees d */
    void (*allreduce)(comm_data_t *d, float *v, int64_t n);
    void (*reduce_scatter)(comm_data_t *d, float *v, int64_t n, int64_t at, int64_t count);
    void (*all_gather)(comm_data_t *d, float *v, int64_t n);
    void (*bcast)(comm_data_t *d, float *v, int64_t n, int root);
    void (*send)(comm_data_t *d, const float *v, int64_t n, int to);
    void (*recv)(comm_data_t *d, float *v, int64_t n, int from);
    void (*begin)(comm_data_t *d);
    void (*end)(comm_data_t *d);
    void (*join)(comm_data_t *d);
    void (*check)(comm_data_t *d);
} comm_data_ops_t;

/* What of the elements at .. at + count - 1 of a vector of n is in the share of `rank`. */
static inline void comm_data_part(int64_t n, int size, int rank, int64_t at, int64_t count, int64_t *first,
                                  int64_t *end) {
    comm_data_share(n, size, rank, first, end);
    *end += *first;
    if (*first < at) *first = at;
    if (*end > at + count) *end = at + count;
    if (*end < *first) *end = *first;
}

struct comm_data {
    const comm_data_ops_t *ops;
    comm_t *comm;
    device_t *device;
};

/* *collective*; several ranks, a device. All ranks return alike. */
status_t comm_nccl_open(comm_t *c, const comm_data_options_t *o, comm_data_t **out);
