/* The few things of CUDA that kernels use beyond plain C++, as thin wrappers: launches, shared memory, warp votes and
 * shuffles, asynchronous copies and tensor-core products. tests/cuda_on_host has a second header of this name with the
 * same functions on the host, where shared memory checks every access; so kernels use these and nothing else that is
 * CUDA's own, except threadIdx, blockIdx, blockDim, gridDim, dim3, __global__, __device__, __forceinline__,
 * __launch_bounds__, __restrict__, cudaStream_t and the mathematics of <math.h> in float and double (expf, rsqrtf, ...;
 * no fast-math intrinsics). */
#pragma once
#include <cuda_bf16.h>
#include <cuda_runtime.h>
#include <stdint.h>

typedef __nv_bfloat16 bf16_t;

__device__ __forceinline__ float to_float(float x) {
    return x;
}
__device__ __forceinline__ float to_float(bf16_t x) {
    return __bfloat162float(x);
}
template <class T> __device__ __forceinline__ T from_float(float x);
template <> __device__ __forceinline__ float from_float<float>(float x) {
    return x;
}
template <> __device__ __forceinline__ bf16_t from_float<bf16_t>(float x) {
    return __float2bfloat16_rn(x);
}

/* ---- launches ------------------------------------------------------------------------------------------------ */

/* Puts a kernel into the stream. A grid of no blocks launches nothing. Dynamic shared memory above 48 KiB is asked for.
 * An error stays with the device (kernels/cuda/device.cu looks at the next sync). */
template <class... P, class... A>
void launch(cudaStream_t stream, dim3 grid, dim3 block, size_t shared, void (*kernel)(P...), A... args) {
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    if (shared > 48 * 1024)
        (void)cudaFuncSetAttribute((const void *)kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared);
    kernel<<<grid, block, shared, stream>>>(static_cast<P>(args)...);
}

/* ---- shared memory ------------------------------------------------------------------------------------------- */

/* A pointer into shared memory: shared_t<float> s; s[i], s + i. Take no address of an element: the host's version
 * returns a guarded reference. */
template <class T> using shared_t = T *;
/* SHARED(float, name, 32); in a kernel's body: a block's array of fixed size, a shared_t<float>. */
#define SHARED(type, name, count)                                                                                      \
    __shared__ __align__(16) type name##_memory[count];                                                                \
    shared_t<type> name = name##_memory
/* The dynamic shared memory of the launch from `offset` bytes on (a multiple of 16) as `count` elements. */
template <class T> __device__ __forceinline__ shared_t<T> shared_dynamic(size_t offset, size_t count) {
    extern __shared__ __align__(16) unsigned char shared_bytes[];
    (void)count;
    return reinterpret_cast<T *>(shared_bytes + offset);
}
__device__ __forceinline__ void block_sync() {
    __syncthreads();
}
__device__ __forceinline__ void warp_sync() {
    __syncwarp();
}

/* ---- warps: all 32 lanes take part ----------------------------------------------------------------------------- */

__device__ __forceinline__ int lane_id() {
    return (int)(threadIdx.x & 31u);
}
__device__ __forceinline__ float warp_xor(float v, int mask) {
    return __shfl_xor_sync(0xffffffffu, v, mask);
}
__device__ __forceinline__ double warp_xor(double v, int mask) {
    return __shfl_xor_sync(0xffffffffu, v, mask);
}
__device__ __forceinline__ int warp_xor(int v, int mask) {
    return __shfl_xor_sync(0xffffffffu, v, mask);
}
__device__ __forceinline__ float warp_from(float v, int lane) {
    return __shfl_sync(0xffffffffu, v, lane);
}
__device__ __forceinline__ int warp_from(int v, int lane) {
    return __shfl_sync(0xffffffffu, v, lane);
}
__device__ __forceinline__ bool warp_any(bool p) {
    return __any_sync(0xffffffffu, p) != 0;
}

/* ---- 16 bytes at once: addresses are multiples of 16 ------------------------------------------------------------ */

template <class T> struct alignas(16) pack_t {
    enum { COUNT = 16 / (int)sizeof(T) };
    T v[COUNT];
};
template <class T> __device__ __forceinline__ pack_t<T> load_pack(const T *p) {
    pack_t<T> r;
    *reinterpret_cast<uint4 *>(&r) = *reinterpret_cast<const uint4 *>(p);
    return r;
}
template <class T> __device__ __forceinline__ void store_pack(T *p, const pack_t<T> &r) {
    *reinterpret_cast<uint4 *>(p) = *reinterpret_cast<const uint4 *>(&r);
}
template <class T> __device__ __forceinline__ void shared_store_pack(shared_t<T> p, const pack_t<T> &r) {
    *reinterpret_cast<uint4 *>(p) = *reinterpret_cast<const uint4 *>(&r);
}
template <class T> __device__ __forceinline__ pack_t<T> shared_load_pack(shared_t<T> p) {
    pack_t<T> r;
    *reinterpret_cast<uint4 *>(&r) = *reinterpret_cast<const uint4 *>(p);
    return r;
}

/* ---- asynchronous copies from global to shared memory, 16 bytes each ------------------------------------------- */

/* Zeroes instead of reading when !valid (from is then not read, but must not be NULL). */
template <class T> __device__ __forceinline__ void async_copy16(shared_t<T> to, const T *from, bool valid) {
    unsigned at = (unsigned)__cvta_generic_to_shared(to);
    int bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(at), "l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void async_commit() {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
/* Waits until at most `groups` of this thread's committed groups are under way; a block_sync must follow before other
 * threads' copies are read. */
template <int groups> __device__ __forceinline__ void async_wait() {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(groups) : "memory");
}

/* ---- tensor cores: D[16,8] += A[16,16] B[16,8], bfloat16 into float, one warp -------------------------------------
 */

/* Where element (row, col) lives (PTX ISA, m16n8k16): with g = lane / 4 and t = lane % 4,
 * D: d[0] (g, 2t) d[1] (g, 2t+1) d[2] (g+8, 2t) d[3] (g+8, 2t+1)
 * A: a[0] (g, 2t..2t+1) a[1] (g+8, 2t..) a[2] (g, 2t+8..) a[3] (g+8, 2t+8..), the lower column in the lower half
 * B: b[0] rows 2t..2t+1 of column g, b[1] rows 2t+8..2t+9 of column g, the lower row in the lower half */
__device__ __forceinline__ void mma_bf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
/* Four 8 x 8 matrices of bfloat16 from shared memory: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes,
 * aligned); r[m] receives elements (lane / 4, 2 (lane % 4) ..+1) of matrix m, and with _trans of its transpose. */
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], shared_t<bf16_t> row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
__device__ __forceinline__ void load_matrices_trans(uint32_t (&r)[4], shared_t<bf16_t> row) {
    unsigned at = (unsigned)__cvta_generic_to_shared(row);
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(at)
                 : "memory");
}
/* Two floats as bfloat16, `low` in the lower half. */
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    __nv_bfloat162 p = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<uint32_t *>(&p);
}
