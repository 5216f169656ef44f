#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <utility>
#include <vector>
#include "tests/cuda_on_host/memory.hpp"

/* Eight of them, or CUDA_ON_HOST_DEVICES of the environment. */
static int devices() {
    const char *n = getenv("CUDA_ON_HOST_DEVICES");
    return n ? atoi(n) : 8;
}
/* CUDA_ON_HOST_LATE=1: work waits until somebody waits for it. */
static bool is_eager() {
    static const char *const e = getenv("CUDA_ON_HOST_LATE");
    return !e || e[0] != '1';
}
static const size_t DEVICE_BYTES = (size_t)4 << 30;

typedef std::vector<std::function<void()>> work_t;

struct CUgraph_st {
    work_t work;
};
struct CUgraphExec_st {
    work_t work;
};
struct CUstream_st {
    CUgraph_st *captured; /* NULL: none under way */
    bool stalled;
    std::deque<std::function<void()>> queue;           /* not done yet */
    size_t put;                                        /* pieces of work so far */
    std::shared_ptr<std::atomic<size_t>> done_pointer; /* outlives the stream */
    std::atomic<size_t> &done() { return *done_pointer; }
};
struct CUevent_st {
    bool stalled;        /* as the stream was when this was recorded */
    CUstream_st *stream; /* is there as long as not all of its work is done */
    std::shared_ptr<std::atomic<size_t>> done;
    size_t after; /* work of that stream */

    bool is_reached() { return !stalled && (!done || *done >= after); }
};

static thread_local cudaError_t last_error;
static thread_local int present_device;
static thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
static int captures;

static cudaError_t answer(cudaError_t e) {
    if (e != cudaSuccess) last_error = e;
    return e;
}

/* Streams, for calls that wait for the device. Only the thread that uses them makes and ends them. */
static std::vector<CUstream_st *> *streams;

static void run_until(CUstream_st *s, size_t after) {
    on_host::memory_open_t open;
    while (s->done() < after) {
        std::function<void()> work = std::move(s->queue.front());
        s->queue.pop_front();
        work();
        s->done()++;
    }
}

static void run_all() {
    if (streams)
        for (CUstream_st *s : *streams) run_until(s, s->put);
}

void on_host::enqueue(cudaStream_t s, std::function<void()> work) {
    if (s && s->captured) {
        s->captured->work.push_back(std::move(work));
        return;
    }
    if (s) {
        s->queue.push_back(std::move(work));
        s->put++;
        if (is_eager()) run_until(s, s->put);
        return;
    }
    if (captures) fail("work for the default stream while another is captured");
    memory_open_t open;
    work();
}

void on_host::stall(cudaStream_t s) {
    s->stalled = true;
}

const char *cudaGetErrorName(cudaError_t e) {
    switch (e) {
    case cudaSuccess:
        return "cudaSuccess";
    case cudaErrorInvalidValue:
        return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation:
        return "cudaErrorMemoryAllocation";
    case cudaErrorNoDevice:
        return "cudaErrorNoDevice";
    case cudaErrorInvalidDevice:
        return "cudaErrorInvalidDevice";
    case cudaErrorNotReady:
        return "cudaErrorNotReady";
    case cudaErrorStreamCaptureUnsupported:
        return "cudaErrorStreamCaptureUnsupported";
    }
    return "unknown";
}
const char *cudaGetErrorString(cudaError_t e) {
    return cudaGetErrorName(e);
}
cudaError_t cudaGetLastError(void) {
    cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}
cudaError_t cudaPeekAtLastError(void) {
    return last_error;
}

/* ---- devices ----------------------------------------------------------------------------------------------------- */

cudaError_t cudaGetDeviceCount(int *count) {
    *count = devices();
    return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
    if (device < 0 || device >= devices()) return answer(cudaErrorInvalidDevice);
    present_device = device;
    return cudaSuccess;
}
cudaError_t cudaGetDevice(int *device) {
    *device = present_device;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetPCIBusId(char *id, int size, int device) {
    if (device < 0 || device >= devices()) return answer(cudaErrorInvalidDevice);
    snprintf(id, (size_t)size, "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device) {
    if (device < 0 || device >= devices()) return answer(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "host processor in place of a GPU");
    p->totalGlobalMem = DEVICE_BYTES;
    p->sharedMemPerBlock = 48 * 1024;
    p->sharedMemPerBlockOptin = on_host::SHARED_MAX;
    p->major = 8;
    p->multiProcessorCount = 108;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->pciBusID = device;
    p->l2CacheSize = 40 << 20;
    return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device) {
    cudaDeviceProp p;
    if (cudaGetDeviceProperties(&p, device) != cudaSuccess) return cudaErrorInvalidDevice;
    switch (attr) {
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        break;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        break;
    }
    return cudaSuccess;
}
cudaError_t cudaDriverGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int *version) {
    *version = 13000;
    return cudaSuccess;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
    *total = DEVICE_BYTES;
    *free = DEVICE_BYTES - on_host::memory_used();
    return cudaSuccess;
}
cudaError_t cudaMalloc(void **p, size_t bytes) {
    if (captures) return answer(cudaErrorStreamCaptureUnsupported);
    *p = NULL;
    if (!bytes) return cudaSuccess;
    if (bytes > DEVICE_BYTES - on_host::memory_used()) return answer(cudaErrorMemoryAllocation);
    *p = on_host::memory_take(bytes);
    return *p ? cudaSuccess : answer(cudaErrorMemoryAllocation);
}
cudaError_t cudaFree(void *p) {
    if (captures) return answer(cudaErrorStreamCaptureUnsupported);
    run_all();
    return !p || on_host::managed_give(p) || on_host::memory_give(p) ? cudaSuccess : answer(cudaErrorInvalidValue);
}
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags) {
    (void)flags;
    if (captures) return answer(cudaErrorStreamCaptureUnsupported);
    *p = NULL;
    if (!bytes) return cudaSuccess;
    if (posix_memalign(p, 256, bytes) != 0) return answer(cudaErrorMemoryAllocation);
    memset(*p, 0xFF, bytes);
    return cudaSuccess;
}
cudaError_t cudaMallocHost(void **p, size_t bytes) {
    return cudaHostAlloc(p, bytes, cudaHostAllocDefault);
}
cudaError_t cudaFreeHost(void *p) {
    if (captures) return answer(cudaErrorStreamCaptureUnsupported);
    run_all();
    free(p);
    return cudaSuccess;
}

static void check_end(const char *what, const void *p, size_t bytes, bool on_device) {
    if (on_device ? !on_host::memory_has(p, bytes) : on_host::memory_touches(p, bytes))
        on_host::fail("the %s of a copy of %zu bytes is not in the memory of the %s", what, bytes,
                      on_device ? "device" : "host");
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s) {
    if (!bytes) return cudaSuccess;
    if (kind != cudaMemcpyDefault) {
        check_end("target", to, bytes, kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice);
        check_end("source", from, bytes, kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice);
    }
    on_host::enqueue(s, [=] { memcpy(to, from, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind) {
    return cudaMemcpyAsync(to, from, bytes, kind, NULL);
}
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s) {
    if (!bytes) return cudaSuccess;
    on_host::enqueue(s, [=] { memset(p, value, bytes); });
    return cudaSuccess;
}
cudaError_t cudaMemset(void *p, int value, size_t bytes) {
    return cudaMemsetAsync(p, value, bytes, NULL);
}

/* ---- streams, events, graphs ---------------------------------------------------------------------------------------
 */

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    (void)flags;
    *s = new CUstream_st();
    (*s)->done_pointer = std::make_shared<std::atomic<size_t>>(0);
    if (!streams) streams = new std::vector<CUstream_st *>();
    streams->push_back(*s);
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    run_until(s, s->put);
    streams->erase(std::find(streams->begin(), streams->end(), s));
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    while (s && s->stalled) pause();
    if (s && s->captured) return answer(cudaErrorStreamCaptureUnsupported);
    if (s) run_until(s, s->put);
    return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    if (s && s->captured) return answer(cudaErrorStreamCaptureUnsupported);
    return s && (s->stalled || s->done() < s->put) ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t cudaDeviceSynchronize(void) {
    if (captures) return answer(cudaErrorStreamCaptureUnsupported);
    run_all();
    return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    if (s) s->stalled |= e->stalled;
    if (!e->stalled && !e->is_reached()) run_until(e->stream, e->after);
    return cudaSuccess;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned flags) {
    (void)flags;
    *e = new CUevent_st();
    return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t *e) {
    return cudaEventCreateWithFlags(e, cudaEventDefault);
}
cudaError_t cudaEventDestroy(cudaEvent_t e) {
    delete e;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s) {
    e->stalled = s && s->stalled;
    e->stream = s;
    e->done = s ? s->done_pointer : nullptr;
    e->after = s ? s->put : 0;
    return cudaSuccess;
}
static cudaError_t check_no_capture() {
    return captures && capture_mode != cudaStreamCaptureModeRelaxed ? answer(cudaErrorStreamCaptureUnsupported)
                                                                    : cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    while (e->stalled) pause();
    if (!e->is_reached()) run_until(e->stream, e->after);
    return check_no_capture();
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    return e->is_reached() ? check_no_capture() : cudaErrorNotReady;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
    std::swap(*mode, capture_mode);
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode) {
    (void)mode;
    if (!s || s->captured) return answer(cudaErrorInvalidValue);
    s->captured = new CUgraph_st();
    captures++;
    return cudaSuccess;
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    *g = NULL;
    if (!s || !s->captured) return answer(cudaErrorInvalidValue);
    *g = s->captured;
    s->captured = NULL;
    captures--;
    return cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status) {
    *status = s && s->captured ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
    return cudaSuccess;
}
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long flags) {
    (void)flags;
    *exec = new CUgraphExec_st();
    (*exec)->work = g->work;
    return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s) {
    for (const std::function<void()> &work : exec->work) on_host::enqueue(s, work);
    return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
    delete exec;
    return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t g) {
    delete g;
    return cudaSuccess;
}
