/* What the kernels of attention share: their arguments, and how rows of all sequences are cut into tiles.
 *
 * The mathematics is in kernels/ops/attention.h. Two families of kernels, chosen by type and head size alone:
 * attention_simt.cu (float sums without tensor cores: every type, any head size up to ATTENTION_MAX_DIM) and
 * attention_mma_fwd.cu, attention_mma_bwd.cu (bfloat16, head sizes of attention_has_mma, tensor cores).
 *
 * Rows behind the last sequence belong to none: their o, lse and gradients are 0. The same holds for prefix rows. */
#pragma once
#include <math.h>
#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "kernels/ops/attention.h"
}

enum { ATTENTION_MAX_DIM = CUDA_HEAD_DIM_MAX };

/* Everything forward and backward read. What is absent, or what backward has no right to read, is NULL. */
typedef struct attention {
    const void *q, *k, *v, *prefix_k, *prefix_v, *out, *gout;
    const int32_t *cu, *cu_prefix; /* cu_prefix NULL: no prefixes (or, in backward, none that matter) */
    void *o;                       /* forward */
    float *lse, *delta;            /* [N, H]; delta: sum_c do o, made by backward */
    void *dq;
    bool bf16, prefix_bf16, acc_q;
    int rows, prefix_rows; /* N, P */
    int sequences, heads, kv_heads, dim;
    float scale;
} attention_t;

/* One kind of keys in backward: the sequences' own or their prefixes'. dk or dv NULL: not wanted. */
typedef struct attention_keys {
    const void *k, *v;
    const int32_t *cu;
    void *dk, *dv;
    bool own, bf16, acc_k, acc_v;
    int rows;
} attention_keys_t;

/* head_dim 16, 32, 64, 96 or 128 */
bool attention_has_mma(int dim);
void attention_mma_forward(const attention_t *a, cudaStream_t stream);
void attention_mma_queries(const attention_t *a, cudaStream_t stream);
void attention_mma_keys(const attention_t *a, const attention_keys_t *y, cudaStream_t stream);
void attention_simt_forward(const attention_t *a, cudaStream_t stream);
void attention_simt_queries(const attention_t *a, cudaStream_t stream);
void attention_simt_keys(const attention_t *a, const attention_keys_t *y, cudaStream_t stream);

/* ---- tiles of rows ------------------------------------------------------------------------------------------- */

/* Where a tile of rows is: `count` rows (0 or less: the slot is empty) from row `first` of a sequence of `length` rows
 * that starts at row `begin` of the tensor. sequence == the number of sequences: the rows behind the last one. */
typedef struct place {
    int sequence, begin, length, first, count;
} place_t;

/* Slots that hold the tiles of any division of `rows` rows into so many sequences and the rows behind them. */
static inline int64_t attention_slots(int rows, int tile, int sequences) {
    return rows / tile + sequences + 1;
}

/* Tiles never cross a sequence, and lengths are known on the device alone. Sequence s gets the slots from
 * cu[s] / tile + s on: enough for its ceil(length / tile) tiles, since ceil((b - a) / t) <= floor(b / t) - floor(a / t)
 * + 1. So a block finds its tile by bisection, and the grid depends on shapes alone. */
__device__ __forceinline__ place_t find_place(const int32_t *cu, int sequences, int rows, int tile, int slot) {
    int low = 0, high = sequences;
    while (low < high) {
        int middle = (low + high + 1) / 2;
        if (cu[middle] / tile + middle <= slot)
            low = middle;
        else
            high = middle - 1;
    }
    place_t at;
    at.sequence = low;
    at.begin = cu[low];
    at.length = (low < sequences ? cu[low + 1] : rows) - at.begin;
    at.first = (slot - at.begin / tile - low) * tile;
    at.count = min(tile, at.length - at.first);
    return at;
}

/* ---- keys of a sequence, in tiles: those of its prefix, then its own -----------------------------------------------
 */

/* Tile n of the keys that the queries before `seen` of sequence s see, for one key head. */
typedef struct key_tile {
    const void *k, *v;
    bool bf16, own;
    int first, count; /* of the prefix or of the sequence's own keys */
} key_tile_t;

typedef struct key_walk {
    int prefix_begin, prefix, begin, seen; /* rows */
    int prefix_tiles, tiles;
} key_walk_t;

__device__ __forceinline__ const void *element(const void *p, bool bf16, int64_t i) {
    return bf16 ? (const void *)((const bf16_t *)p + i) : (const void *)((const float *)p + i);
}
__device__ __forceinline__ void *element(void *p, bool bf16, int64_t i) {
    return bf16 ? (void *)((bf16_t *)p + i) : (void *)((float *)p + i);
}

__device__ __forceinline__ key_walk_t walk_keys(const attention_t &a, int sequence, int seen, int tile) {
    key_walk_t w;
    w.prefix_begin = a.cu_prefix ? a.cu_prefix[sequence] : 0;
    w.prefix = a.cu_prefix ? a.cu_prefix[sequence + 1] - w.prefix_begin : 0;
    w.begin = a.cu[sequence];
    w.seen = seen;
    w.prefix_tiles = (w.prefix + tile - 1) / tile;
    w.tiles = w.prefix_tiles + (seen + tile - 1) / tile;
    return w;
}

__device__ __forceinline__ key_tile_t key_tile_at(const attention_t &a, const key_walk_t &w, int n, int kv, int tile) {
    key_tile_t t;
    t.own = n >= w.prefix_tiles;
    t.bf16 = t.own ? a.bf16 : a.prefix_bf16;
    t.first = (t.own ? n - w.prefix_tiles : n) * tile;
    t.count = min(tile, (t.own ? w.seen : w.prefix) - t.first);
    int64_t row = (t.own ? w.begin : w.prefix_begin) + t.first;
    int64_t at = (row * a.kv_heads + kv) * a.dim;
    t.k = element(t.own ? a.k : a.prefix_k, t.bf16, at);
    t.v = element(t.own ? a.v : a.prefix_v, t.bf16, at);
    return t;
}

/* ---- single numbers of either type ---------------------------------------------------------------------------------
 */

__device__ __forceinline__ float load_real(const void *p, bool bf16, int64_t i) {
    return bf16 ? to_float(((const bf16_t *)p)[i]) : ((const float *)p)[i];
}
__device__ __forceinline__ void put_real(void *p, bool bf16, int64_t i, float v, bool acc) {
    if (bf16)
        put((bf16_t *)p + i, v, acc);
    else
        put((float *)p + i, v, acc);
}

/* Zeroes `count` rows of one head of a tensor with rows of `heads` heads, by all threads of a block. */
__device__ __forceinline__ void zero_rows(void *p, bool bf16, int64_t row, int count, int heads, int head, int dim) {
    for (int i = (int)threadIdx.x; i < count * dim; i += (int)blockDim.x)
        put_real(p, bf16, ((row + i / dim) * heads + head) * dim + i % dim, 0.0f, false);
}
