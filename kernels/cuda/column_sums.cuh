/* Sums over rows for every column, as gradients of norm weights need them: sum_n f(n, column), for one or two f at
 * once.
 *
 * A block takes 256 columns of a chunk of rows, its 8 warps every eighth row each, and writes its partial sums to
 * scratch; a second kernel adds the chunks in order, in double. Chunks have 64 rows, or more where there would be over
 * 128 of them: a function of the number of rows alone. Bound by memory: what f reads, once; the partial sums are 1/64
 * of a float tensor or less. */
#pragma once
#include "kernels/cuda/pieces.cuh"

enum { CHUNK_ROWS = 64, CHUNKS = 128, SUM_WARPS = 8, SUM_COLUMNS = 32 * EIGHT };

/* Scratch of `sums` sums; grows with rows. */
static inline size_t column_sums_scratch(int64_t rows, int64_t d, int sums) {
    int64_t chunks = cuda_parts(rows, CHUNK_ROWS);
    return (size_t)((chunks < CHUNKS ? chunks : (int64_t)CHUNKS) * d * sums) * sizeof(float);
}

/* f(n, column, count, v): v[s][i] is the term of sum s at row n and column + i; only the first `count` are used. */
template <int SUMS, class F>
static __global__ void __launch_bounds__(32 * SUM_WARPS)
    column_partial_sums(int64_t rows, int64_t chunk, int64_t d, F f, float *partial) {
    SHARED(float, part, SUM_WARPS *SUM_COLUMNS);
    int warp = (int)threadIdx.x / 32;
    int64_t first = (int64_t)blockIdx.x * SUM_COLUMNS, at = first + lane_id() * EIGHT;
    int64_t to = ((int64_t)blockIdx.y + 1) * chunk;
    float sum[SUMS][EIGHT] = {}, v[SUMS][EIGHT];
    if (to > rows) to = rows;
    for (int64_t n = (int64_t)blockIdx.y * chunk + warp; at < d && n < to; n += SUM_WARPS) {
        f(n, at, d - at, v);
#pragma unroll
        for (int s = 0; s < SUMS; s++)
#pragma unroll
            for (int i = 0; i < EIGHT; i++) sum[s][i] += v[s][i];
    }
#pragma unroll
    for (int s = 0; s < SUMS; s++) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) part[(warp * EIGHT + i) * 32 + lane_id()] = sum[s][i];
        block_sync();
        /* thread = 32 i + lane: column lane * EIGHT + i */
        int64_t column = first + lane_id() * EIGHT + warp;
        float all = 0;
        for (int w = 0; w < SUM_WARPS; w++) all += part[w * SUM_COLUMNS + (int)threadIdx.x];
        if (column < d) partial[((int64_t)s * gridDim.y + blockIdx.y) * d + column] = all;
        block_sync();
    }
}

static __global__ void __launch_bounds__(32 * SUM_WARPS)
    column_final_sums(int64_t chunks, int64_t d, const float *partial, bool acc, float *g) {
    SHARED(double, part, SUM_WARPS * 32);
    int warp = (int)threadIdx.x / 32;
    int64_t column = (int64_t)blockIdx.x * 32 + lane_id();
    double sum = 0;
    for (int64_t c = warp; column < d && c < chunks; c += SUM_WARPS) sum += (double)partial[c * d + column];
    part[threadIdx.x] = sum;
    block_sync();
    if (warp > 0 || column >= d) return;
    sum = acc ? (double)g[column] : 0.0;
    for (int w = 0; w < SUM_WARPS; w++) sum += part[w * 32 + lane_id()];
    g[column] = (float)sum;
}

/* g[s][column] = the sum, or += with acc[s]; g[s] NULL: not wanted. */
template <int SUMS, class F>
static inline void column_sums(cudaStream_t stream, int64_t rows, int64_t d, F f, void *scratch,
                               float *const (&g)[SUMS], const bool (&acc)[SUMS]) {
    int64_t chunk = cuda_parts(rows, CHUNKS);
    if (chunk < CHUNK_ROWS) chunk = CHUNK_ROWS;
    int64_t chunks = cuda_parts(rows, chunk);
    float *partial = (float *)scratch;
    launch(stream, dim3((unsigned)cuda_parts(d, SUM_COLUMNS), (unsigned)chunks), 32 * SUM_WARPS, 0,
           column_partial_sums<SUMS, F>, rows, chunk, d, f, partial);
    for (int s = 0; s < SUMS; s++)
        if (g[s])
            launch(stream, dim3((unsigned)cuda_parts(d, 32)), 32 * SUM_WARPS, 0, column_final_sums, chunks, d,
                   partial + s * chunks * d, acc[s], g[s]);
}
