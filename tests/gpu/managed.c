/* The op tests keep what kernels read and write in the host's memory, as all kernels of tests/cuda_on_host run there.
 * On a real device the same tests run unchanged: the linker puts these functions in place of the allocation functions
 * (-Wl,--wrap), and memory comes from cudaMallocManaged, which both sides see. CUDA_LAUNCH_BLOCKING=1 makes each launch
 * wait for its end, so that the host may look at the result at once.
 *
 * Each block is an allocation of its own, so that compute-sanitizer knows its end. CUDA allocates while it allocates,
 * and libraries hand out memory of the C library; both stay what they are. */
#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *__real_malloc(size_t bytes);
void *__real_realloc(void *p, size_t bytes);
void __real_free(void *p);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);
void __wrap_free(void *p);

static _Thread_local bool inside;

enum { HEAD = 256 }; /* the size, for realloc; CUDA's alignment is kept */

static void *managed(size_t bytes) {
    unsigned char *p = NULL;
    inside = true;
    cudaError_t e = cudaMallocManaged((void **)&p, HEAD + bytes, cudaMemAttachGlobal);
    inside = false;
    if (e != cudaSuccess) {
        fprintf(stderr, "managed memory: %s\n", cudaGetErrorString(e));
        exit(1);
    }
    memcpy(p, &bytes, sizeof bytes);
    return p + HEAD;
}

/* Freed by CUDA itself when `inside`. */
static bool is_ours(const void *p) {
    struct cudaPointerAttributes a = {0};
    if (inside) return false;
    inside = true;
    bool ours = cudaPointerGetAttributes(&a, p) == cudaSuccess && a.type == cudaMemoryTypeManaged;
    inside = false;
    return ours;
}

void *__wrap_malloc(size_t bytes) {
    return inside ? __real_malloc(bytes) : managed(bytes);
}

void *__wrap_calloc(size_t count, size_t size) {
    if (size && count > SIZE_MAX / size) return NULL;
    void *p = __wrap_malloc(count * size);
    if (p) memset(p, 0, count * size);
    return p;
}

void *__wrap_aligned_alloc(size_t alignment, size_t bytes) {
    (void)alignment;
    return __wrap_malloc(bytes);
}

void __wrap_free(void *p) {
    if (!p) return;
    if (!is_ours(p)) {
        __real_free(p);
        return;
    }
    inside = true;
    cudaFree((unsigned char *)p - HEAD);
    inside = false;
}

void *__wrap_realloc(void *p, size_t bytes) {
    size_t had;
    if (!p) return __wrap_malloc(bytes);
    if (!is_ours(p)) return __real_realloc(p, bytes);
    memcpy(&had, (unsigned char *)p - HEAD, sizeof had);
    void *moved = __wrap_malloc(bytes);
    memcpy(moved, p, had < bytes ? had : bytes);
    __wrap_free(p);
    return moved;
}
