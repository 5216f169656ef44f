#include <cuda_runtime.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <utility>
#include <vector>
#include "tests/cuda_on_host/memory.hpp"

/* Eight of them, or CUDA_ON_HOST_DEVICES of the environment. */
static int devices() {
    const char *n = getenv("CUDA_ON_HOST_DEVICES");
    return n ? atoi(n) : 8;
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
};
struct CUevent_st {
    bool stalled; /* as the stream was when this was recorded */
};

static thread_local cudaError_t last_error;
static thread_local int present_device;
static thread_local cudaStreamCaptureMode capture_mode = cudaStreamCaptureModeGlobal;
static int captures;

static cudaError_t answer(cudaError_t e) {
    if (e != cudaSuccess) last_error = e;
    return e;
}

void on_host::enqueue(cudaStream_t s, std::function<void()> work) {
    if (s && s->captured) {
        s->captured->work.push_back(std::move(work));
        return;
    }
    if (captures && !s) fail("work for the default stream while another is captured");
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
    return !p || on_host::memory_give(p) ? cudaSuccess : answer(cudaErrorInvalidValue);
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
    return cudaSuccess;
}
cudaError_t cudaStreamCreate(cudaStream_t *s) {
    return cudaStreamCreateWithFlags(s, cudaStreamDefault);
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    delete s;
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    while (s && s->stalled) pause();
    return s && s->captured ? answer(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t s) {
    return s && s->stalled ? cudaErrorNotReady : cudaStreamSynchronize(s);
}
cudaError_t cudaDeviceSynchronize(void) {
    return captures ? answer(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned) {
    if (s) s->stalled |= e->stalled;
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
    return cudaSuccess;
}
cudaError_t cudaEventSynchronize(cudaEvent_t e) {
    while (e->stalled) pause();
    return captures && capture_mode != cudaStreamCaptureModeRelaxed ? answer(cudaErrorStreamCaptureUnsupported)
                                                                    : cudaSuccess;
}
cudaError_t cudaEventQuery(cudaEvent_t e) {
    return e->stalled ? cudaErrorNotReady : cudaEventSynchronize(e);
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
