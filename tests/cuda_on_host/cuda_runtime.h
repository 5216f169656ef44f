/* CUDA's runtime for programs that run its kernels on the host: the part that kernels/cuda uses, under the same names.
 *
 * Work of a stream is done in order, at once or, with CUDA_ON_HOST_LATE=1, as late as the program lets it: when
 * somebody waits for it. So a host that reads or changes memory without having waited is found. While a stream is
 * captured, work is recorded, and done when the graph is launched. The default stream, NULL, does its work at once.
 * Device memory is host memory that starts as 0xFF (NaN) and, where the processor has protection keys, can be touched
 * by kernels and copies alone: host code that follows a device pointer dies. Copies check on which side their ends
 * are. runtime.cpp has the bodies. *local* */
#pragma once
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include "tests/cuda_on_host/block.hpp"
#include "tests/cuda_on_host/cuda_runtime_api.h"

#define __global__
#define __device__
#define __host__
/* nvcc inlines these, so two files may have one name for two functions; a linker would keep one of them */
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __align__(n) alignas(n)

#define threadIdx    (on_host::now->index)
#define blockIdx     (on_host::block->index)
#define blockDim     (on_host::block->shape)
#define gridDim      (on_host::block->grid)

struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
struct alignas(16) uint4 {
    unsigned x, y, z, w;
};

static inline float rsqrtf(float x) {
    return 1.0f / sqrtf(x);
}
static inline double rsqrt(double x) {
    return 1.0 / sqrt(x);
}
#define ON_HOST_MIN_MAX(type)                                                                                          \
    static inline type min(type a, type b) {                                                                           \
        return b < a ? b : a;                                                                                          \
    }                                                                                                                  \
    static inline type max(type a, type b) {                                                                           \
        return a < b ? b : a;                                                                                          \
    }
ON_HOST_MIN_MAX(int)
ON_HOST_MIN_MAX(unsigned)
ON_HOST_MIN_MAX(long)
ON_HOST_MIN_MAX(unsigned long)
ON_HOST_MIN_MAX(long long)
ON_HOST_MIN_MAX(unsigned long long)
#undef ON_HOST_MIN_MAX

typedef struct CUgraph_st *cudaGraph_t;
typedef struct CUgraphExec_st *cudaGraphExec_t;

/* ---- devices: eight of them (CUDA_ON_HOST_DEVICES), like an A100 with less memory
 * ---------------------------------------------------- */

struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem, sharedMemPerBlock, sharedMemPerBlockOptin;
    int major, minor, multiProcessorCount, warpSize, maxThreadsPerBlock, pciBusID, pciDeviceID, pciDomainID,
        l2CacheSize;
};
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrMaxSharedMemoryPerBlockOptin = 97,
};
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attr, int device);
cudaError_t cudaDriverGetVersion(int *version);
cudaError_t cudaRuntimeGetVersion(int *version);
cudaError_t cudaDeviceSynchronize(void);

/* ---- memory ---------------------------------------------------------------------------------------------------- */

enum cudaMemcpyKind {
    cudaMemcpyHostToHost,
    cudaMemcpyHostToDevice,
    cudaMemcpyDeviceToHost,
    cudaMemcpyDeviceToDevice,
    cudaMemcpyDefault
};
#define cudaHostAllocDefault  0u
#define cudaHostAllocPortable 1u
cudaError_t cudaMemGetInfo(size_t *free, size_t *total);
cudaError_t cudaMalloc(void **p, size_t bytes);
cudaError_t cudaHostAlloc(void **p, size_t bytes, unsigned flags);
cudaError_t cudaMallocHost(void **p, size_t bytes);
cudaError_t cudaFreeHost(void *p);
cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, cudaMemcpyKind kind);
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t s);
cudaError_t cudaMemset(void *p, int value, size_t bytes);
cudaError_t cudaMemsetAsync(void *p, int value, size_t bytes, cudaStream_t s);

/* ---- streams, events, graphs ------------------------------------------------------------------------------------- */

enum cudaStreamCaptureStatus {
    cudaStreamCaptureStatusNone,
    cudaStreamCaptureStatusActive,
    cudaStreamCaptureStatusInvalidated
};
cudaError_t cudaStreamBeginCapture(cudaStream_t s, cudaStreamCaptureMode mode);
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g);
cudaError_t cudaStreamIsCapturing(cudaStream_t s, cudaStreamCaptureStatus *status);
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t g, unsigned long long flags = 0);
cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t s);
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec);
cudaError_t cudaGraphDestroy(cudaGraph_t g);

#include <functional>
namespace on_host {
/* Keeps the work for the stream, or for the graph that it is captured into. */
void enqueue(cudaStream_t s, std::function<void()> work);
/* From now on the stream gets nowhere: events behind this are never ready, and whoever waits for it waits for ever. */
void stall(cudaStream_t s);
} // namespace on_host
