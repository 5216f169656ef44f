/* A CUDA device: one stream, events for the marks, memory, graphs.
 *
 * Calls that only queue work keep the first error and its place, which the next call that waits raises; a launch's own
 * error is CUDA's last error until then (wrap.cuh). After an error of a kernel CUDA refuses all further work of the
 * process on that device, so the error is raised again by every later wait. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/cuda/gemm.h"

struct device_graph {
    cudaGraphExec_t exec;
};

namespace {

enum { ALIGN = 256, OLDEST_MAJOR = 8 };

struct cuda_device_t {
    device_t base; /* first: a device_t * is one of these */
    cudaEvent_t mark[DEVICE_MARKS];
    cudaError_t error; /* the first one */
    const char *place; /* of it */
};

cuda_device_t *of(device_t *d) {
    return (cuda_device_t *)d;
}

/* --- the verbs: keep and go on, or return --- */

void keep(cuda_device_t *c, cudaError_t e, const char *place) {
    if (e == cudaSuccess) return;
    (void)cudaGetLastError();
    if (c->error != cudaSuccess) return;
    c->error = e;
    c->place = place;
}

#define KEEP(d, call) keep(of(d), (call), #call)

status_t raise(const char *where, const char *device, const char *place, cudaError_t e) {
    return st_raise(e == cudaErrorMemoryAllocation ? ST_NOMEM : ST_INTERNAL, where,
                    "%s: %.60s: %s (%s); CUDA_LAUNCH_BLOCKING=1 names the kernel, nvidia-smi and the kernel log tell "
                    "whether the device is healthy",
                    device, place, cudaGetErrorString(e), cudaGetErrorName(e));
}

/* What is known to have gone wrong so far. */
status_t check(cuda_device_t *c, const char *where) {
    keep(c, cudaGetLastError(), "launch of a kernel");
    if (c->error != cudaSuccess) return raise(where, c->base.name, c->place, c->error);
    return c->base.gemm ? gemm_check(&c->base, where) : ST_OK;
}

#define CUDA_TRY(d, where, call)                                                                                       \
    do {                                                                                                               \
        KEEP(d, call);                                                                                                 \
        TRY(check(of(d), where));                                                                                      \
    } while (0)

/* --- memory --- */

cudaStream_t stream(const device_t *d) {
    return (cudaStream_t)d->stream;
}

size_t rounded(size_t bytes) {
    return (bytes + ALIGN) / ALIGN * ALIGN;
}

/* Too little memory is no fault of the device: nothing is kept, so that the caller may do with less. */
status_t no_memory(device_t *d, const char *what, size_t bytes, cudaError_t e) {
    size_t free_bytes = 0, total = 0;
    (void)cudaGetLastError();
    if (e != cudaErrorMemoryAllocation) {
        keep(of(d), e, "allocation");
        return check(of(d), what);
    }
    (void)cudaMemGetInfo(&free_bytes, &total);
    return st_raise(ST_NOMEM, what,
                    "%s has no %.1f MiB left (%.1f of %.1f MiB are free); lower micro_batch_tokens, set "
                    "gradient_checkpointing, or take bfloat16 weights",
                    d->name, (double)bytes / 1048576, (double)free_bytes / 1048576, (double)total / 1048576);
}

status_t device_memory(device_t *d, size_t bytes, const char *what, void **out) {
    void *p = nullptr;
    cudaError_t e = cudaMalloc(&p, rounded(bytes));
    if (e != cudaSuccess) return no_memory(d, what, bytes, e);
    KEEP(d, cudaMemsetAsync(p, 0, rounded(bytes), stream(d)));
    *out = p;
    return ST_OK;
}

void give_memory(device_t *d, void *p) {
    KEEP(d, cudaFree(p)); /* waits for what uses it */
}

status_t pinned_memory(device_t *d, size_t bytes, const char *what, void **out) {
    void *p = nullptr;
    cudaError_t e = cudaHostAlloc(&p, rounded(bytes), cudaHostAllocDefault);
    if (e != cudaSuccess) {
        (void)cudaGetLastError();
        if (e == cudaErrorMemoryAllocation) return st_nomem(what, bytes);
        return no_memory(d, what, bytes, e);
    }
    memset(p, 0, rounded(bytes));
    *out = p;
    return ST_OK;
}

void give_pinned(device_t *d, void *p) {
    KEEP(d, cudaFreeHost(p));
}

/* --- the queue --- */

void upload(device_t *d, void *to, const void *from, size_t bytes) {
    KEEP(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyHostToDevice, stream(d)));
}

void download(device_t *d, void *to, const void *from, size_t bytes) {
    KEEP(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToHost, stream(d)));
}

void copy(device_t *d, void *to, const void *from, size_t bytes) {
    KEEP(d, cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, stream(d)));
}

void zero(device_t *d, void *p, size_t bytes) {
    KEEP(d, cudaMemsetAsync(p, 0, bytes, stream(d)));
}

status_t sync(device_t *d, const char *where) {
    CUDA_TRY(d, where, cudaStreamSynchronize(stream(d)));
    return ST_OK;
}

void mark(device_t *d, int slot) {
    KEEP(d, cudaEventRecord(of(d)->mark[slot], stream(d)));
}

status_t wait(device_t *d, int slot, const char *where) {
    CUDA_TRY(d, where, cudaEventSynchronize(of(d)->mark[slot]));
    return ST_OK;
}

/* --- graphs: a thread may do other things with CUDA while this one records --- */

status_t capture_begin(device_t *d) {
    CUDA_TRY(d, "recording", cudaStreamBeginCapture(stream(d), cudaStreamCaptureModeThreadLocal));
    return ST_OK;
}

/* What could not be recorded can still be run, so nothing is kept. */
status_t capture_end(device_t *d, device_graph_t **out) {
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t exec = nullptr;
    cudaError_t e = cudaStreamEndCapture(stream(d), &graph);
    if (e == cudaSuccess) e = cudaGraphInstantiate(&exec, graph, 0);
    if (graph) (void)cudaGraphDestroy(graph);
    (void)cudaGetLastError();
    if (e != cudaSuccess) return raise("recording", d->name, "cudaStreamEndCapture", e);
    device_graph_t *g = (device_graph_t *)calloc(1, sizeof *g);
    if (!g) {
        (void)cudaGraphExecDestroy(exec);
        return st_nomem("recorded work", sizeof *g);
    }
    g->exec = exec;
    *out = g;
    return ST_OK;
}

void launch_graph(device_t *d, device_graph_t *g) {
    KEEP(d, cudaGraphLaunch(g->exec, stream(d)));
}

void release_graph(device_t *d, device_graph_t *g) {
    KEEP(d, cudaStreamSynchronize(stream(d)));
    KEEP(d, cudaGraphExecDestroy(g->exec));
    free(g);
}

/* --- opening and closing --- */

void close_device(device_t *d) {
    cuda_device_t *c = of(d);
    if (d->stream) (void)cudaStreamSynchronize(stream(d));
    if (d->gemm) gemm_close(d);
    for (int i = 0; i < DEVICE_MARKS; i++)
        if (c->mark[i]) (void)cudaEventDestroy(c->mark[i]);
    if (d->stream) (void)cudaStreamDestroy(stream(d));
    (void)cudaGetLastError();
    free(c);
}

const device_calls_t calls = {close_device,  device_memory, give_memory,  pinned_memory, give_pinned,   upload,
                              download,      copy,          zero,         sync,          mark,          wait,
                              capture_begin, capture_end,   launch_graph, release_graph, gemm_describe, gemm_adopt};

/* CUDA's number of usable device `ordinal`, or with -1 the number of usable ones; *found of all. */
cudaError_t usable(int ordinal, int *found, int *out) {
    cudaError_t e = cudaGetDeviceCount(found);
    *out = 0;
    if (e != cudaSuccess) *found = 0;
    for (int i = 0; e == cudaSuccess && i < *found; i++) {
        int major = 0;
        e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, i);
        if (e != cudaSuccess || major < OLDEST_MAJOR) continue;
        if (ordinal-- == 0) {
            *out = i;
            return cudaSuccess;
        }
        ++*out;
    }
    (void)cudaGetLastError();
    return e;
}

status_t start(cuda_device_t *c, int number) {
    cudaDeviceProp p;
    cudaStream_t s = nullptr;
    device_t *d = &c->base;
    snprintf(d->name, sizeof d->name, "cuda:%d", d->ordinal);
    CUDA_TRY(d, "device", cudaSetDevice(number));
    CUDA_TRY(d, "device", cudaGetDeviceProperties(&p, number));
    snprintf(d->name, sizeof d->name, "cuda:%d %.100s", d->ordinal, p.name);
    d->memory = p.totalGlobalMem;
    CUDA_TRY(d, "device", cudaStreamCreateWithFlags(&s, cudaStreamNonBlocking));
    d->stream = s;
    for (int i = 0; i < DEVICE_MARKS; i++)
        CUDA_TRY(d, "device", cudaEventCreateWithFlags(&c->mark[i], cudaEventDisableTiming));
    return gemm_open(d);
}

} // namespace

extern "C" {

bool cuda_built(void) {
    return true;
}

int cuda_count(char *why, size_t size) {
    int found = 0, n = 0;
    cudaError_t e = usable(-1, &found, &n);
    why[0] = 0;
    if (e != cudaSuccess)
        snprintf(why, size, "no GPU can be used: %s", cudaGetErrorString(e));
    else if (!found)
        snprintf(why, size, "there is no GPU");
    else if (!n)
        snprintf(why, size, "none of %d GPUs can be used: all are older than compute capability %d.0", found,
                 (int)OLDEST_MAJOR);
    return n;
}

status_t cuda_open(int ordinal, device_t **out) {
    char why[160];
    int found = 0, number = 0, n = cuda_count(why, sizeof why);
    if (n == 0) return st_raise(ST_USAGE, "device", "%s; use --device cpu", why);
    if (ordinal < 0 || ordinal >= n)
        return st_raise(ST_USAGE, "device", "there is no cuda:%d; usable are cuda:0 to cuda:%d", ordinal, n - 1);
    cuda_device_t *c = (cuda_device_t *)calloc(1, sizeof *c);
    if (!c) return st_nomem("device", sizeof *c);
    c->base.call = &calls;
    c->base.ordinal = ordinal;
    (void)usable(ordinal, &found, &number);
    status_t st = start(c, number);
    if (st != ST_OK) {
        close_device(&c->base);
        return st;
    }
    *out = &c->base;
    return ST_OK;
}
}
