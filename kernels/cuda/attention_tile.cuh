/* Tiles of bfloat16 rows in shared memory and the two products that attention is made of.
 *
 * A tile is a number of rows of DIM columns, TILE_STRIDE<DIM>() elements apart: DIM and 16 bytes more, an odd number of
 * 16-byte pieces, so that the eight rows that load_matrices reads at once lie in different banks.
 *
 * All products have 16 rows per fragment and warp, in the layout of mma_bf16 (wrap.cuh): with g = lane / 4 and
 * t = lane % 4, a lane's d[n][0..1] are columns 8n + 2t, 8n + 2t + 1 of row g, d[n][2..3] the same of row g + 8. Two
 * neighbouring blocks of such a result, rounded to bfloat16, are a left operand as they are: so probabilities go from
 * the first product to the second without leaving the registers. */
#pragma once
#include "kernels/cuda/attention.cuh"

enum { MMA_THREADS = 128, MMA_WARPS = MMA_THREADS / 32 };

template <int DIM> constexpr int TILE_STRIDE = DIM + 8;

/* ---- from global memory ---------------------------------------------------------------------------------------- */

/* ROWS rows of one head become a tile, zero from row `count` on. bfloat16 comes by asynchronous copies, which the
 * caller commits and waits for; float (a trained prefix) is rounded on the way. */
template <int DIM, int ROWS>
__device__ __forceinline__ void copy_tile(shared_t<bf16_t> to, const void *from, bool bf16, int64_t from_stride,
                                          int count) {
    constexpr int PIECES = DIM / 8, STRIDE = TILE_STRIDE<DIM>;
    if (bf16) {
#pragma unroll 2
        for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += MMA_THREADS) {
            int row = i / PIECES, column = i % PIECES * 8;
            bool valid = row < count;
            async_copy16(to + (row * STRIDE + column),
                         (const bf16_t *)from + (valid ? row * from_stride + column : (int64_t)0), valid);
        }
        return;
    }
#pragma unroll 1
    for (int i = (int)threadIdx.x; i < ROWS * PIECES; i += MMA_THREADS) {
        int row = i / PIECES, column = i % PIECES * 8;
        pack_t<bf16_t> piece;
        for (int half = 0; half < 2; half++) {
            pack_t<float> x = {};
            if (row < count) x = load_pack((const float *)from + row * from_stride + column + 4 * half);
            for (int c = 0; c < 4; c++) piece.v[4 * half + c] = from_float<bf16_t>(x.v[c]);
        }
        shared_store_pack(to + (row * STRIDE + column), piece);
    }
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* Where lane l points load_matrices for 16 rows and 16 columns. In the first order matrices 0 and 1 are the upper and
 * the lower 8 rows (a left operand; with _trans the two blocks of 8 columns of a right operand whose rows are summed
 * over), in the second they are the left and the right 8 columns (two blocks of a right operand whose columns are
 * summed over). */
template <int DIM> __device__ __forceinline__ int rows_first() {
    int l = lane_id();
    return l % 16 * TILE_STRIDE<DIM> + l / 16 * 8;
}
template <int DIM> __device__ __forceinline__ int columns_first() {
    int l = lane_id();
    return (l % 8 + l / 16 * 8) * TILE_STRIDE<DIM> + l / 8 % 2 * 8;
}

/* Two neighbouring blocks of 8 columns. */
__device__ __forceinline__ void mma_two(float (&d0)[4], float (&d1)[4], const uint32_t (&a)[4],
                                        const uint32_t (&b)[4]) {
    const uint32_t b0[2] = {b[0], b[1]}, b1[2] = {b[2], b[3]};
    mma_bf16(d0, a, b0);
    mma_bf16(d1, a, b1);
}

/* d[m] = A_m B^T: 16 FRAGMENTS rows of `a` against 8 BLOCKS rows of `b`, summed over DIM columns. */
template <int DIM, int FRAGMENTS, int BLOCKS>
__device__ __forceinline__ void rows_by_rows(float (&d)[FRAGMENTS][BLOCKS][4], shared_t<bf16_t> a, shared_t<bf16_t> b) {
    constexpr int STRIDE = TILE_STRIDE<DIM>;
#pragma unroll
    for (int m = 0; m < FRAGMENTS; m++)
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) d[m][n][i] = 0.0f;
    shared_t<bf16_t> a_lane = a + rows_first<DIM>(), b_lane = b + columns_first<DIM>();
#pragma unroll
    for (int k = 0; k < DIM; k += 16) {
        uint32_t left[FRAGMENTS][4];
#pragma unroll
        for (int m = 0; m < FRAGMENTS; m++) load_matrices(left[m], a_lane + (16 * m * STRIDE + k));
#pragma unroll
        for (int n = 0; n < BLOCKS; n += 2) {
            uint32_t right[4];
            load_matrices(right, b_lane + (8 * n * STRIDE + k));
#pragma unroll
            for (int m = 0; m < FRAGMENTS; m++) mma_two(d[m][n], d[m][n + 1], left[m], right);
        }
    }
}

/* d[m] += W_m B: weights of 16 FRAGMENTS rows, rounded to bfloat16, times the 8 BLOCKS rows of `b`. */
template <int DIM, int FRAGMENTS, int BLOCKS>
__device__ __forceinline__ void add_weights_by_rows(float (&d)[FRAGMENTS][DIM / 8][4],
                                                    const float (&w)[FRAGMENTS][BLOCKS][4], shared_t<bf16_t> b) {
    constexpr int STRIDE = TILE_STRIDE<DIM>;
    shared_t<bf16_t> b_lane = b + rows_first<DIM>();
#pragma unroll
    for (int k = 0; k < BLOCKS; k += 2) {
        uint32_t left[FRAGMENTS][4];
#pragma unroll
        for (int m = 0; m < FRAGMENTS; m++) {
            left[m][0] = pack_bf16(w[m][k][0], w[m][k][1]);
            left[m][1] = pack_bf16(w[m][k][2], w[m][k][3]);
            left[m][2] = pack_bf16(w[m][k + 1][0], w[m][k + 1][1]);
            left[m][3] = pack_bf16(w[m][k + 1][2], w[m][k + 1][3]);
        }
#pragma unroll
        for (int n = 0; n < DIM / 8; n += 2) {
            uint32_t right[4];
            load_matrices_trans(right, b_lane + (8 * k * STRIDE + 8 * n));
#pragma unroll
            for (int m = 0; m < FRAGMENTS; m++) mma_two(d[m][n], d[m][n + 1], left[m], right);
        }
    }
}

/* ---- to global memory ----------------------------------------------------------------------------------------------
 */

/* Row g or g + 8 (`upper`) of a fragment, times `factor`, to `row` (its first column) of a tensor of either type. */
template <int DIM>
__device__ __forceinline__ void put_fragment_row(void *row, bool bf16, bool acc, const float (&d)[DIM / 8][4],
                                                 int upper, float factor) {
    int t = lane_id() % 4;
#pragma unroll
    for (int n = 0; n < DIM / 8; n++) {
        float x = factor * d[n][2 * upper], y = factor * d[n][2 * upper + 1];
        if (bf16 && !acc) {
            reinterpret_cast<uint32_t *>(row)[4 * n + t] = pack_bf16(x, y);
        } else {
            put_real(row, bf16, 8 * n + 2 * t, x, acc);
            put_real(row, bf16, 8 * n + 2 * t + 1, y, acc);
        }
    }
}
