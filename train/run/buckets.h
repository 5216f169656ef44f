/* The fast reduction: gradients are summed over ranks in buckets, each as soon as backward has finished with it, while
 * backward goes on with the rest. Backward finishes tensors from the last layer to the first and the blob has them from
 * the first to the last, so buckets are cut from the blob's end.
 *
 * On devices that is an overlap: operations run in the communicator's queue (comm_data.h), and the device is given the
 * rest of backward meanwhile. On the host they are done one after the other. */
#pragma once
#include "train/comm/comm_data.h"
#include "train/tape/param.h"
#include "train/tape/tape.h"

enum {
    BUCKET_FLOATS = 25 << 18, /* 25 MiB, as in Li et al. 2020 (PyTorch's DDP): large enough for a link's bandwidth, and
                                 small beside what backward does meanwhile */
    BUCKETS_MOST = 8,         /* each part of backward is recorded apart for every size of a micro-batch; what waits for
                                 the end of backward is about an eighth then */
};

typedef struct bucket {
    int64_t at, n; /* of the blob */
    int64_t done;  /* backward events after which it is complete */
} bucket_t;

typedef struct buckets {
    int64_t n_all; /* of the blob */
    int count;
    bucket_t item[BUCKETS_MOST]; /* in the order in which they are complete */
} buckets_t;

/* Buckets of whole tensors, of `least` floats or more but for one, for a planned tape over `params`. *local* */
void buckets_cut(const tape_t *t, const param_set_t *params, int64_t least, buckets_t *out);
/* Backward of a tape, which adds to `grad` (tape_set_grad), NULL: this rank has nothing to add; and the sum over ranks
 * in grad: all of it, or with `share` this rank's share (comm_data_reduce_scatter). What follows in the device's queue
 * is behind it. *collective* */
void buckets_reduce(const buckets_t *b, tape_t *t, comm_data_t *d, float *grad, bool share);
