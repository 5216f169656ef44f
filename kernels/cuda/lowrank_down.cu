/* t = drop(x) W^T and the packing of matrices of rank r (lowrank.h). Bytes: one read of x. */
#include "kernels/cuda/lowrank_mask.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, ROWS = 32, STRETCH = 32, FILL = 32 };

int64_t filled(int64_t n) {
    return cuda_parts(n, FILL) * FILL;
}

template <class T>
__global__ void pack_matrix(const T *w, int64_t row_stride, int64_t col_stride, int64_t rows, int64_t cols,
                            int64_t across, int64_t count, bf16_t *to) {
    const int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x, l = at / across, j = at % across;
    if (at >= count) return;
    to[at] = from_float<bf16_t>(l < rows && j < cols ? to_float(w[l * row_stride + j * col_stride]) : 0.0f);
}

struct down_t {
    const bf16_t *x;
    lowrank_packed_t w;
    lowrank_mask_t mask;
    float *t;
    int64_t n, c, r;
    float scale;
    bool wide;
};

/* Rows lane/4 + 8 i of the block at the thread's columns. */
__device__ __forceinline__ void load_rows(const down_t &p, int64_t row0, int64_t col, eight_t (&x)[4]) {
    for (int i = 0; i < 4; i++) {
        const int64_t n = row0 + lane_id() / 4 + 8 * i;
        x[i] = n < p.n && col < p.c ? load_eight(p.x + n * p.c, col, p.c, p.wide) : no_eight();
    }
}

/* A block has 32 rows, each warp every eighth stretch of 32 columns, of which a thread has 8 neighbours: two steps of
 * the sum. The warps' sums are added in order. */
template <int TILES> __global__ void __launch_bounds__(THREADS) down(down_t p) {
    SHARED(float, part, ROWS * 8 * TILES);
    const int warp = (int)threadIdx.x / 32, g = lane_id() / 4, t = lane_id() % 4;
    const int64_t row0 = (int64_t)blockIdx.x * ROWS;
    const dropper_t d = dropper_of(p.mask);
    float sum[2][TILES][4] = {};
    eight_t x[4], next[4];
    load_rows(p, row0, warp * STRETCH + 8 * t, next);
    for (int64_t c0 = warp * STRETCH; c0 < p.c; c0 += WARPS * STRETCH) {
        const int64_t col = c0 + 8 * t;
        for (int i = 0; i < 4; i++) x[i] = next[i];
        load_rows(p, row0, col + WARPS * STRETCH, next);
        for (int i = 0; i < 4 && d.drop; i++)
            if (row0 + g + 8 * i < p.n) drop_eight(p.mask, d, row0 + g + 8 * i, col, x[i]);
#pragma unroll
        for (int j = 0; j < TILES; j++) {
            const eight_t w = load_eight(p.w.data + (8 * j + g) * p.w.cols, col, p.w.cols, true);
#pragma unroll
            for (int s = 0; s < 2; s++) {
                const uint32_t b[2] = {w.u[2 * s], w.u[2 * s + 1]};
#pragma unroll
                for (int m = 0; m < 2; m++) {
                    const uint32_t a[4] = {x[2 * m].u[2 * s], x[2 * m + 1].u[2 * s], x[2 * m].u[2 * s + 1],
                                           x[2 * m + 1].u[2 * s + 1]};
                    mma_bf16(sum[m][j], a, b);
                }
            }
        }
    }
    for (int w = 0; w < WARPS; w++) {
        if (warp == w)
#pragma unroll
            for (int m = 0; m < 2; m++)
#pragma unroll
                for (int j = 0; j < TILES; j++)
#pragma unroll
                    for (int i = 0; i < 4; i++) {
                        const int at = (16 * m + g + i / 2 * 8) * 8 * TILES + 8 * j + 2 * t + i % 2;
                        part[at] = sum[m][j][i] + (w ? (float)part[at] : 0.0f);
                    }
        block_sync();
    }
    const float scale = d.drop ? p.scale * p.mask.keep : p.scale;
    for (int i = (int)threadIdx.x; i < ROWS * (int)p.r; i += THREADS) {
        const int64_t n = row0 + i / p.r, l = i % p.r;
        if (n < p.n) p.t[n * p.r + l] = scale * part[(int)(i / p.r * 8 * TILES + l)];
    }
}

} // namespace

size_t lowrank_pack_bytes(int64_t rows, int64_t cols) {
    return sizeof(bf16_t) * (size_t)(filled(rows) * filled(cols));
}

lowrank_packed_t lowrank_pack(cudaStream_t stream, const view_t *w, int64_t row_stride, int64_t col_stride,
                              int64_t rows, int64_t cols, void *to) {
    const lowrank_packed_t pack = {(bf16_t *)to, filled(cols)};
    const int64_t count = filled(rows) * pack.cols;
    with_real(w->dtype, [&](auto one) {
        using T = decltype(one);
        launch(stream, dim3((unsigned)cuda_parts(count, THREADS)), dim3(THREADS), 0, pack_matrix<T>, (const T *)w->data,
               row_stride, col_stride, rows, cols, pack.cols, count, pack.data);
    });
    return pack;
}

void lowrank_down(cudaStream_t stream, const bf16_t *x, int64_t n, int64_t c, const lowrank_packed_t *w, int64_t r,
                  float scale, const lowrank_mask_t *mask, float *t) {
    const down_t p = {x, *w, *mask, t, n, c, r, scale, c % 8 == 0 && (uintptr_t)x % 16 == 0};
    const dim3 grid((unsigned)cuda_parts(n, ROWS));
    launch(stream, grid, dim3(THREADS), 0, r <= 16 ? down<2> : r <= 32 ? down<4> : down<8>, p);
}
