#include "train/run/compute.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda.h"

static status_t open_host(dtype_t weight, compute_t *out) {
    if (weight != DT_F32)
        return st_raise(ST_USAGE, "dtype", "bfloat16 is there on GPUs alone; use float32, or --device cuda");
    *out = (compute_t){.backend = &backend_cpu};
    return ST_OK;
}

static status_t unknown(const char *device) {
    return st_raise(ST_USAGE, "device", "'%s' is not known; cpu, cuda, cuda:0, cuda:1 ... and auto are", device);
}

/* The GPU of this rank among n. */
static status_t choose(const char *device, int n, const comm_t *comm, bool share, int *ordinal) {
    const int rank = comm ? comm_local_rank(comm) : 0, ranks = comm ? comm_local_size(comm) : 1;
    const bool named = device[4] == ':';
    char *end = NULL;
    long number = named ? strtol(device + 5, &end, 10) : 0;
    if (named && (end == device + 5 || *end || number < 0 || number > 1 << 20)) return unknown(device);
    if (ranks > (named ? 1 : n) && !share)
        return st_raise(ST_USAGE, "device",
                        "%d ranks of this node are to use %d GPU%s; start one rank per GPU, or set share_device: true",
                        ranks, named ? 1 : n, named || n == 1 ? "" : "s");
    *ordinal = named ? (int)number : rank % n;
    return ST_OK;
}

status_t compute_open(const char *device, dtype_t weight, const comm_t *comm, bool share, compute_t *out) {
    char why[160];
    const bool automatic = !strcmp(device, "auto"),
               gpu = !strncmp(device, "cuda", 4) && (!device[4] || device[4] == ':');
    int ordinal = 0;
    *out = (compute_t){0};
    if (!strcmp(device, "cpu")) return open_host(weight, out);
    if (!automatic && !gpu) return unknown(device);
    const int n = cuda_count(why, sizeof why);
    if (!n && automatic) {
        if (cuda_built() && (!comm || !comm_rank(comm))) fprintf(stderr, "graft: %s; the CPU computes\n", why);
        return open_host(weight, out);
    }
    if (!n) return st_raise(ST_USAGE, "device", "%s; use --device cpu", why);
    TRY(choose(automatic ? "cuda" : device, n, comm, share, &ordinal));
    TRY(cuda_open(ordinal, &out->device));
    out->backend = weight == DT_BF16 ? &backend_cuda_bf16 : &backend_cuda_f32;
    return ST_OK;
}

void compute_close(compute_t *c) {
    device_close(c->device);
    *c = (compute_t){0};
}
