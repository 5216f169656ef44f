/* What all CUDA files share: the device, calls by type, sums over a block, gradients that add or overwrite.
 *
 * A kernel file has `extern "C"` functions cuda_<op>_fwd, _bwd and _scratch, called through the table of
 * kernels/cuda/backend_cuda.cu. Grids and tiles depend on shapes alone and no atomic adds are used, so the same shapes
 * give the same bits; rows are padded by nobody. Shapes of no rows are legal. Work goes to cuda_stream(io), nothing is
 * allocated and nothing waits, so that a step can be captured. */
#pragma once
#include "kernels/cuda/wrap.cuh"
extern "C" {
#include "kernels/cuda.h"

#define OP(NAME, name)                                                                                                 \
    void cuda_##name##_fwd(const op_io_t *io);                                                                         \
    void cuda_##name##_bwd(const op_io_t *io);                                                                         \
    size_t cuda_##name##_scratch(const op_io_t *io);
#include "kernels/ops.def"
#undef OP
}

static inline cudaStream_t cuda_stream(const op_io_t *io) {
    return (cudaStream_t)io->device->stream;
}

static inline int64_t cuda_parts(int64_t total, int64_t tile) {
    return (total + tile - 1) / tile;
}

/* Calls f with a value of the C++ type of `t`: with_real(v->dtype, [&](auto one) { using T = decltype(one); ... }); */
template <class F> void with_real(dtype_t t, F f) {
    if (t == DT_BF16)
        f(bf16_t());
    else
        f(float());
}

/* *g = v or *g += v; acc is the planner's (op.h). */
template <class T> __device__ __forceinline__ void put(T *g, float v, bool acc) {
    *g = from_float<T>(acc ? to_float(*g) + v : v);
}

/* The sum over a warp, in all lanes, in one fixed order. */
template <class T> __device__ __forceinline__ T warp_sum(T v) {
    for (int m = 16; m; m >>= 1) v += warp_xor(v, m);
    return v;
}
__device__ __forceinline__ float warp_max(float v) {
    for (int m = 16; m; m >>= 1) v = fmaxf(v, warp_xor(v, m));
    return v;
}

/* The sum over a block of blockDim.x (a multiple of 32, at most 1024) threads, in all of them, in one fixed order.
 * `part` has room for 32; ends with a barrier, so it may be used again at once. */
template <class T> __device__ __forceinline__ T block_sum(T v, shared_t<T> part) {
    v = warp_sum(v);
    if (lane_id() == 0) part[threadIdx.x / 32] = v;
    block_sync();
    T sum = 0;
    for (unsigned w = 0; w < blockDim.x / 32; w++) sum += part[w];
    block_sync();
    return sum;
}
