/* y = from + drop^T(t V^T), and masks alone (lowrank.h). Bytes: one read of `from`, one write of y. */
#include "kernels/cuda/lowrank_mask.cuh"

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS, ROWS = 32 * WARPS, COLS = 256, STRETCH = 32 };

struct up_t {
    const float *t;
    lowrank_packed_t v;
    lowrank_mask_t mask;
    const bf16_t *from;
    bf16_t *y;
    int64_t n, r, c;
    float scale;
    bool wide;
};

/* Row n of t at eight neighbours from l on, as bfloat16. */
__device__ __forceinline__ eight_t load_t(const up_t &p, int64_t n, int64_t l) {
    eight_t e = no_eight();
    if (n >= p.n) return e;
    for (int i = 0; i < 4; i++) {
        const int64_t at = l + 2 * i;
        e.u[i] = pack_bf16(at < p.r ? p.t[n * p.r + at] : 0.0f, at + 1 < p.r ? p.t[n * p.r + at + 1] : 0.0f);
    }
    return e;
}

/* Columns col .. col+7 of row n. */
__device__ __forceinline__ void store_row(const up_t &p, const dropper_t &d, int64_t n, int64_t col,
                                          const float (&sum)[8]) {
    uint32_t bits = 0xff;
    if (n >= p.n || col >= p.c) return;
    if (d.drop) bits = kept(p.mask, d, p.mask.keys[n], col / 4) | kept(p.mask, d, p.mask.keys[n], col / 4 + 1) << 4;
    const float scale = d.drop ? p.scale * p.mask.keep : p.scale;
    const bool whole = p.wide && col + 8 <= p.c;
    pack_t<bf16_t> v;
    if (p.from && whole) v = load_pack(p.from + n * p.c + col);
    for (int i = 0; i < 8; i++) {
        if (!whole && p.from && col + i < p.c) v.v[i] = p.from[n * p.c + col + i];
        const float start = p.from && col + i < p.c ? to_float(v.v[i]) : 0.0f;
        v.v[i] = from_float<bf16_t>(bits >> i & 1 ? start + scale * sum[i] : start);
        if (!whole && col + i < p.c) p.y[n * p.c + col + i] = v.v[i];
    }
    if (whole) store_pack(p.y + n * p.c + col, v);
}

/* A warp has 32 rows and the block's columns by stretches of 32: of four tiles of results a thread gets two neighbours
 * each, which are eight in a row. */
template <int PIECES> __global__ void __launch_bounds__(THREADS) up(up_t p) {
    const int warp = (int)threadIdx.x / 32, g = lane_id() / 4, t = lane_id() % 4;
    const int64_t row0 = (int64_t)blockIdx.y * ROWS + 32 * warp, first = (int64_t)blockIdx.x * COLS;
    const int64_t last = first + COLS < p.c ? first + COLS : p.c;
    const dropper_t d = dropper_of(p.mask);
    eight_t left[PIECES][4];
    if (row0 >= p.n) return;
#pragma unroll
    for (int k = 0; k < PIECES; k++)
#pragma unroll
        for (int i = 0; i < 4; i++) left[k][i] = load_t(p, row0 + g + 8 * i, 32 * k + 8 * t);
    for (int64_t c0 = first; c0 < last; c0 += STRETCH) {
        float sum[2][4][4] = {};
#pragma unroll
        for (int q = 0; q < 4; q++)
#pragma unroll
            for (int k = 0; k < PIECES; k++) {
                const int64_t row = c0 + 8 * (g / 2) + 2 * q + g % 2;
                const eight_t v = load_eight(p.v.data + row * p.v.cols, 32 * k + 8 * t, p.v.cols, true);
#pragma unroll
                for (int s = 0; s < 2; s++) {
                    const uint32_t b[2] = {v.u[2 * s], v.u[2 * s + 1]};
#pragma unroll
                    for (int m = 0; m < 2; m++) {
                        const eight_t &high = left[k][2 * m], &low = left[k][2 * m + 1];
                        const uint32_t a[4] = {high.u[2 * s], low.u[2 * s], high.u[2 * s + 1], low.u[2 * s + 1]};
                        mma_bf16(sum[m][q], a, b);
                    }
                }
            }
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float row[8];
#pragma unroll
            for (int j = 0; j < 8; j++) row[j] = sum[i / 2][j / 2][i % 2 * 2 + j % 2];
            store_row(p, d, row0 + g + 8 * i, c0 + 8 * t, row);
        }
    }
}

template <class T> __global__ void drop_all(const T *from, int64_t n, int64_t c, lowrank_mask_t mask, bool acc, T *to) {
    const dropper_t d = dropper_of(mask);
    const int64_t groups = (c + 3) / 4;
    for (int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; at < n * groups;
         at += (int64_t)gridDim.x * THREADS) {
        const int64_t row = at / groups, group = at % groups;
        const uint32_t bits = d.drop ? kept(mask, d, mask.keys[row], group) : 0xf;
        for (int64_t i = 4 * group; i < c && i < 4 * group + 4; i++) {
            const float v = to_float(from[row * c + i]) * (d.drop ? mask.keep : 1.0f);
            put(to + row * c + i, bits >> (i - 4 * group) & 1 ? v : 0.0f, acc);
        }
    }
}

} // namespace

void lowrank_up(cudaStream_t stream, const float *t, int64_t n, int64_t r, const lowrank_packed_t *v, int64_t c,
                float scale, const lowrank_mask_t *mask, const bf16_t *from, bf16_t *y) {
    const bool wide = c % 8 == 0 && ((uintptr_t)y | (uintptr_t)from) % 16 == 0;
    const up_t p = {t, *v, *mask, from, y, n, r, c, scale, wide};
    const dim3 grid((unsigned)cuda_parts(c, COLS), (unsigned)cuda_parts(n, ROWS));
    launch(stream, grid, dim3(THREADS), 0, r <= 32 ? up<1> : up<2>, p);
}

void lowrank_drop(cudaStream_t stream, dtype_t type, const void *from, int64_t n, int64_t c, const lowrank_mask_t *mask,
                  bool acc, void *to) {
    const int64_t blocks = cuda_parts(n * cuda_parts(c, 4), THREADS);
    with_real(type, [&](auto one) {
        using T = decltype(one);
        launch(stream, dim3((unsigned)(blocks < 65535 ? blocks : 65535)), dim3(THREADS), 0, drop_all<T>,
               (const T *)from, n, c, *mask, acc, (T *)to);
    });
}
