#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <map>
#include <mutex>
#include "tests/cuda_on_host/memory.hpp"

/* Memory that both sides see: the host's. By address, with its size; kept until the process ends, like CUDA's context.
 */
static std::mutex lock;
static std::map<uintptr_t, size_t> &pieces() {
    static auto *all = new std::map<uintptr_t, size_t>;
    return *all;
}

bool on_host::managed_give(void *p) {
    std::lock_guard<std::mutex> hold(lock);
    if (!pieces().erase((uintptr_t)p)) return false;
    free(p);
    return true;
}

cudaError_t cudaMallocManaged(void **p, size_t bytes, unsigned) {
    *p = NULL;
    if (!bytes) return cudaErrorInvalidValue;
    if (posix_memalign(p, 256, bytes) != 0) return cudaErrorMemoryAllocation;
    memset(*p, 0xFF, bytes);
    std::lock_guard<std::mutex> hold(lock);
    pieces()[(uintptr_t)*p] = bytes;
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *a, const void *p) {
    std::lock_guard<std::mutex> hold(lock);
    auto next = pieces().upper_bound((uintptr_t)p);
    bool ours = next != pieces().begin() && (--next, (uintptr_t)p - next->first < next->second);
    a->type = ours                            ? cudaMemoryTypeManaged
              : on_host::memory_touches(p, 1) ? cudaMemoryTypeDevice
                                              : cudaMemoryTypeUnregistered;
    return cudaSuccess;
}
