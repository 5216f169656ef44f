/* Where a process computes: on the host, or on one device with the backend of its kernels. */
#pragma once
#include "kernels/device.h"
#include "kernels/op.h"
#include "train/comm/comm.h"

typedef struct compute {
    device_t *device; /* NULL: the host */
    const backend_t *backend;
} compute_t;

/* device: cpu, cuda (one GPU per rank, by its number among the ranks of the node), cuda:N (that one), or auto: a GPU if
 * there is a usable one, else the CPU, which a build with CUDA says. weight: of frozen base weights, float or bfloat16.
 * comm NULL: this process alone computes. share: ranks of a node may use one GPU together. Errors: ST_USAGE when there
 * is no such device, with what was found; when a node has more ranks than GPUs; for bfloat16 on the CPU. *local* */
status_t compute_open(const char *device, dtype_t weight, const comm_t *comm, bool share, compute_t *out);
/* After everything that is in its memory. */
void compute_close(compute_t *c);
