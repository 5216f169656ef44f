/* Rows of a norm: a warp takes a row of up to 32 * EIGHT * held numbers, a block a longer one. A thread holds up to
 * `held` pieces of eight in registers between the passes over a row, which is all of the row up to 512 threads * EIGHT
 * * held numbers (16,384 forward, 8,192 backward); what is longer is read again from the cache.
 *
 * Bound by memory: two tensors forward, three backward (four where the gradient is added to, which is at once the sum
 * of a residual's two gradients). The gradients of w and b read x and dy a second time (column_sums.cuh); they are
 * wanted only where a base is trained. */
#pragma once
#include "kernels/cuda/column_sums.cuh"

/* Kernels have __launch_bounds__(NORM_THREADS, 1): without the 1 the compiler aims at 64 registers and spills. */
enum { NORM_THREADS = 512, NORM_WARPS = 4 };

/* Which pieces of a row a thread has: those at (first + k step) EIGHT. */
struct norm_part_t {
    int64_t row, d;
    int first, step;
};

/* `warps`: rows of this block, 0: one, by all of its threads. */
__device__ __forceinline__ norm_part_t norm_part(int warps, int64_t d) {
    norm_part_t p = {(int64_t)blockIdx.x, d, (int)threadIdx.x, (int)blockDim.x};
    if (warps) {
        p.row = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
        p.first = lane_id();
        p.step = 32;
    }
    return p;
}

/* PACKED: all rows are whole pieces at multiples of 16 bytes. */
template <bool PACKED, class T>
__device__ __forceinline__ void norm_load(const norm_part_t &p, const T *row, int64_t at, float (&v)[EIGHT]) {
    load_eight(row + at, PACKED ? (int64_t)EIGHT : p.d - at, PACKED, v);
}
template <bool PACKED, class T>
__device__ __forceinline__ void norm_store(const norm_part_t &p, T *row, int64_t at, bool acc,
                                           const float (&v)[EIGHT]) {
    store_eight(row + at, PACKED ? (int64_t)EIGHT : p.d - at, PACKED, acc, v);
}

/* f(at, k) for the pieces that are held, rest(at) for the others. */
template <int HELD, class F, class R> __device__ __forceinline__ void norm_pieces(const norm_part_t &p, F f, R rest) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int64_t at = (int64_t)(p.first + k * p.step) * EIGHT;
        if (at < p.d) f(at, k);
    }
    for (int64_t at = (int64_t)(p.first + HELD * p.step) * EIGHT; at < p.d; at += (int64_t)p.step * EIGHT) rest(at);
}

/* The sum over the threads of a row. */
__device__ __forceinline__ float norm_sum(int warps, float v, shared_t<float> part) {
    return warps ? warp_sum(v) : block_sum(v, part);
}

/* The launch for rows of d numbers. */
typedef struct {
    dim3 grid;
    unsigned threads;
    int warps;
} norm_grid_t;

static inline norm_grid_t norm_grid(int64_t rows, int64_t d, int held) {
    int64_t pieces = cuda_parts(d, EIGHT), threads = cuda_parts(pieces, 32 * held) * 32;
    if (threads <= 32) return {dim3((unsigned)cuda_parts(rows, NORM_WARPS)), 32 * NORM_WARPS, (int)NORM_WARPS};
    return {dim3((unsigned)rows), (unsigned)(threads < NORM_THREADS ? threads : (int64_t)NORM_THREADS), 0};
}
