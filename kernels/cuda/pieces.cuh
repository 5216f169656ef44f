/* Rows of numbers in pieces of eight, one thread each: 16 bytes at once in bfloat16, twice 16 in float. Where an
 * address or a row length is no multiple of that, the same thread takes its numbers one by one (`packed` is false, or
 * fewer than eight are left). The kernels that use this read and write every tensor once, so their floor is bytes /
 * memory rate.
 */
#pragma once
#include "kernels/cuda/cuda.cuh"

enum { EIGHT = 8, PIECE_THREADS = 256 };

/* ---- on the device ----------------------------------------------------------------------------------------------- */

/* v[i] = p[i]; 0 from `count` on. */
template <class T>
__device__ __forceinline__ void load_eight(const T *p, int64_t count, bool packed, float (&v)[EIGHT]) {
    constexpr int many = 16 / (int)sizeof(T);
    if (packed && count >= EIGHT) {
#pragma unroll
        for (int j = 0; j < EIGHT; j += many) {
            pack_t<T> pack = load_pack(p + j);
#pragma unroll
            for (int i = 0; i < many; i++) v[j + i] = to_float(pack.v[i]);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < EIGHT; i++) v[i] = i < count ? to_float(p[i]) : 0.0f;
}

/* p[i] = v[i], or += with acc, for i < count. */
template <class T>
__device__ __forceinline__ void store_eight(T *p, int64_t count, bool packed, bool acc, const float (&v)[EIGHT]) {
    constexpr int many = 16 / (int)sizeof(T);
    if (packed && count >= EIGHT) {
#pragma unroll
        for (int j = 0; j < EIGHT; j += many) {
            pack_t<T> pack = {};
            if (acc) pack = load_pack(p + j);
#pragma unroll
            for (int i = 0; i < many; i++) put(&pack.v[i], v[j + i], acc);
            store_pack(p + j, pack);
        }
        return;
    }
#pragma unroll
    for (int i = 0; i < EIGHT; i++)
        if (i < count) put(&p[i], v[i], acc);
}

/* The first number of this thread's piece of a tensor without rows. */
__device__ __forceinline__ int64_t piece_at() {
    return ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * EIGHT;
}

/* ---- grids ---------------------------------------------------------------------------------------------------------
 */

template <class... P> static inline bool is_packed(const P *...p) {
    const uintptr_t bits[] = {(uintptr_t)p...};
    for (uintptr_t b : bits)
        if (b % 16) return false;
    return true;
}

/* The grid for `n` numbers in a line, PIECE_THREADS threads a block. */
static inline dim3 piece_grid(int64_t n) {
    return dim3((unsigned)cuda_parts(n, EIGHT * PIECE_THREADS));
}

/* Rows of `length` numbers over blocks of PIECE_THREADS threads: short rows share a block, in long ones a thread has
 * several pieces. */
typedef struct {
    int64_t rows, length;
    int width; /* threads of one row */
} piece_rows_t;

static inline piece_rows_t piece_rows(int64_t rows, int64_t length) {
    int64_t pieces = cuda_parts(length, EIGHT);
    piece_rows_t r = {rows, length, pieces < PIECE_THREADS ? (int)pieces : (int)PIECE_THREADS};
    return r;
}
static inline dim3 piece_rows_grid(const piece_rows_t &r) {
    return dim3((unsigned)(r.width ? cuda_parts(r.rows, PIECE_THREADS / r.width) : 0));
}
/* This thread's row, -1: none; its first piece. */
__device__ __forceinline__ int64_t piece_row(const piece_rows_t &r) {
    int several = PIECE_THREADS / r.width, mine = (int)threadIdx.x / r.width;
    int64_t row = (int64_t)blockIdx.x * several + mine;
    return mine < several && row < r.rows ? row : -1;
}
__device__ __forceinline__ int piece_first(const piece_rows_t &r) {
    return (int)threadIdx.x % r.width;
}
