/* g = t^T drop(x) (lowrank.h): rows are cut in at most 16 chunks, whose sums are added in order. Bytes: one read of x,
 * and a write and a read of the chunks' sums, which are 2 r / chunk of it. */
#include "kernels/cuda/lowrank_mask.cuh"

namespace {

enum { WARPS = 4, THREADS = 32 * WARPS, COLS = 64, STEP = 16, SUM_THREADS = 256 };
const int64_t CHUNKS = 16, LEAST = 256;

struct outer_t {
    const float *t;
    const bf16_t *x;
    lowrank_mask_t mask;
    float *partial; /* [chunk, r, c] */
    int64_t n, r, c, chunk;
    bool wide;
};

int64_t chunk_rows(int64_t n) {
    const int64_t rows = cuda_parts(cuda_parts(n, CHUNKS), STEP) * STEP;
    return rows > LEAST ? rows : LEAST;
}

/* Row n of x at the thread's columns, 0 beyond the chunk. */
__device__ __forceinline__ void load_rows(const outer_t &p, int64_t n, int64_t last, int64_t col, eight_t (&x)[4]) {
#pragma unroll
    for (int e = 0; e < 4; e++)
        x[e] = n + e < last && col < p.c ? load_eight(p.x + (n + e) * p.c, col, p.c, p.wide) : no_eight();
}

__device__ __forceinline__ float t_at(const outer_t &p, int64_t n, int64_t last, int64_t l) {
    return n < last && l < p.r ? p.t[n * p.r + l] : 0.0f;
}

/* Element q of two rows, as neighbours of the sum. */
__device__ __forceinline__ uint32_t pair(const eight_t &a, const eight_t &b, int q) {
    const uint32_t low = a.u[q / 2], high = b.u[q / 2];
    return q % 2 ? low >> 16 | (high & 0xffff0000u) : (low & 0xffffu) | high << 16;
}

__device__ __forceinline__ void store_eight(const outer_t &p, int64_t l, int64_t col, const float (&v)[8]) {
    if (l >= p.r || col >= p.c) return;
    float *to = p.partial + ((int64_t)blockIdx.y * p.r + l) * p.c + col;
    if (p.wide) {
        pack_t<float> a, b;
        for (int i = 0; i < 4; i++) {
            a.v[i] = v[i];
            b.v[i] = v[4 + i];
        }
        store_pack(to, a);
        store_pack(to + 4, b);
        return;
    }
    for (int i = 0; i < 8; i++)
        if (col + i < p.c) to[i] = v[i];
}

/* A warp has 64 columns and a chunk of rows by 16: a thread has rows 4 (lane % 4) .. +3 at eight neighbouring columns,
 * each of which is a column of another tile. */
template <int TILES> __global__ void __launch_bounds__(THREADS) outer(outer_t p) {
    const int g = lane_id() / 4, t = lane_id() % 4;
    const int64_t c0 = ((int64_t)blockIdx.x * WARPS + threadIdx.x / 32) * COLS, col = c0 + 8 * g;
    const int64_t first = (int64_t)blockIdx.y * p.chunk, last = first + p.chunk < p.n ? first + p.chunk : p.n;
    const dropper_t d = dropper_of(p.mask);
    float sum[TILES][8][4] = {};
    eight_t x[4], next[4];
    if (c0 >= p.c) return;
    load_rows(p, first + 4 * t, last, col, next);
    for (int64_t n0 = first; n0 < last; n0 += STEP) {
        const int64_t n = n0 + 4 * t;
        for (int e = 0; e < 4; e++) x[e] = next[e];
        load_rows(p, n + STEP, last, col, next);
        for (int e = 0; e < 4 && d.drop; e++)
            if (n + e < last) drop_eight(p.mask, d, n + e, col, x[e]);
#pragma unroll
        for (int m = 0; m < TILES; m++) {
            const int64_t l = 16 * m + g;
            const uint32_t a[4] = {pack_bf16(t_at(p, n, last, l), t_at(p, n + 1, last, l)),
                                   pack_bf16(t_at(p, n, last, l + 8), t_at(p, n + 1, last, l + 8)),
                                   pack_bf16(t_at(p, n + 2, last, l), t_at(p, n + 3, last, l)),
                                   pack_bf16(t_at(p, n + 2, last, l + 8), t_at(p, n + 3, last, l + 8))};
#pragma unroll
            for (int q = 0; q < 8; q++) {
                const uint32_t b[2] = {pair(x[0], x[1], q), pair(x[2], x[3], q)};
                mma_bf16(sum[m][q], a, b);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float v[8];
#pragma unroll
            for (int q = 0; q < 8; q++) v[q] = sum[m][q][i];
            store_eight(p, 16 * m + g + i / 2 * 8, c0 + 8 * (2 * t + i % 2), v);
        }
}

struct total_t {
    const float *partial;
    lowrank_mask_t mask;
    int64_t chunks, r, c, row_stride, col_stride;
    float scale;
    bool acc;
    float *g;
};

__global__ void add_chunks(total_t p) {
    const int64_t at = (int64_t)blockIdx.x * SUM_THREADS + threadIdx.x;
    if (at >= p.r * p.c) return;
    const float scale = dropper_of(p.mask).drop ? p.scale * p.mask.keep : p.scale;
    float sum = 0;
    for (int64_t k = 0; k < p.chunks; k++) sum += p.partial[k * p.r * p.c + at];
    put(p.g + at / p.c * p.row_stride + at % p.c * p.col_stride, scale * sum, p.acc);
}

} // namespace

int64_t lowrank_outer_floats(int64_t n, int64_t r, int64_t c) {
    const int64_t chunks = cuda_parts(n, LEAST);
    return (chunks < CHUNKS ? chunks : CHUNKS) * r * c;
}

void lowrank_outer(cudaStream_t stream, const float *t, const bf16_t *x, int64_t n, int64_t r, int64_t c, float scale,
                   const lowrank_mask_t *mask, float *partial, int64_t row_stride, int64_t col_stride, bool acc,
                   float *g) {
    const int64_t chunk = chunk_rows(n), chunks = cuda_parts(n, chunk);
    const outer_t p = {t, x, *mask, partial, n, r, c, chunk, c % 8 == 0 && (uintptr_t)x % 16 == 0};
    const total_t total = {partial, *mask, chunks, r, c, row_stride, col_stride, scale, acc, g};
    const dim3 grid((unsigned)cuda_parts(c, WARPS * COLS), (unsigned)chunks);
    launch(stream, grid, dim3(THREADS), 0, r <= 16 ? outer<1> : r <= 32 ? outer<2> : outer<4>, p);
    launch(stream, dim3((unsigned)cuda_parts(r * c, SUM_THREADS)), dim3(SUM_THREADS), 0, add_chunks, total);
}
