/* Forward with tensor cores (FlashAttention-2, Dao 2023): a block has a tile of queries of one head, a warp 16
 * FRAGMENTS of its rows; keys and values pass by in tiles of KEYS rows, first those of the prefix, then the sequence's
 * own as far as the causal mask lets the tile see. Values are copied while scores are made, the next keys while values
 * are used.
 *
 * Floor: FlashAttention-2 on an H100, forward and backward together 257 TFLOP/s at head size 64 and 294 at 128 with
 * 4,096 tokens. Two fragments a warp make 13 multiplications per byte of shared memory; an A100 asks for 8 to keep its
 * tensor cores busy, one fragment would make 7. */
#include "kernels/cuda/attention_tile.cuh"

/* Running maximum and sum of exponentials of a lane's two rows of a fragment, to base 2. The sum is the lane's own part
 * until the end. */
typedef struct softmax {
    float max[2], sum[2];
} softmax_t;

static __device__ __forceinline__ float quad_max(float v) {
    v = fmaxf(v, warp_xor(v, 1));
    return fmaxf(v, warp_xor(v, 2));
}
static __device__ __forceinline__ float quad_sum(float v) {
    v += warp_xor(v, 1);
    return v + warp_xor(v, 2);
}

/* s becomes 2^(scale s - max), 0 where a row does not see a key; sum so far and o are brought to the new maximum.
 * `limit` is the number of keys of the tile that row g sees; row g + 8 sees `step` more, none more than `count`. */
template <int DIM, int BLOCKS>
static __device__ __forceinline__ void softmax_tile(float (&s)[BLOCKS][4], float (&o)[DIM / 8][4], softmax_t *r,
                                                    float scale, int limit, int step, int count) {
    int t = lane_id() % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        int sees = min(limit + half * step, count);
        float max = -INFINITY;
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float &x = s[n][2 * half + i];
                x = 8 * n + 2 * t + i < sees ? x * scale : -INFINITY;
                max = fmaxf(max, x);
            }
        /* The first tile has a key that every row sees, so the maximum is finite from then on. */
        max = fmaxf(r->max[half], quad_max(max));
        float factor = exp2f(r->max[half] - max), sum = r->sum[half] * factor;
        r->max[half] = max;
#pragma unroll
        for (int n = 0; n < BLOCKS; n++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                float &x = s[n][2 * half + i];
                x = exp2f(x - max);
                sum += x;
            }
        r->sum[half] = sum;
#pragma unroll
        for (int n = 0; n < DIM / 8; n++) {
            o[n][2 * half] *= factor;
            o[n][2 * half + 1] *= factor;
        }
    }
}

template <int DIM, int FRAGMENTS, int KEYS>
static __global__ void __launch_bounds__(MMA_THREADS) forward_mma(attention_t a) {
    constexpr int QUERIES = MMA_WARPS * 16 * FRAGMENTS, STRIDE = TILE_STRIDE<DIM>, BLOCKS = KEYS / 8;
    constexpr float LOG2E = 1.44269504f, LN2 = 0.693147181f;
    int h = (int)blockIdx.x % a.heads, slots = (int)gridDim.x / a.heads, kv = h / (a.heads / a.kv_heads);
    const place_t at = find_place(a.cu, a.sequences, a.rows, QUERIES, slots - 1 - (int)blockIdx.x / a.heads);
    if (at.count <= 0) return;
    int64_t q_stride = (int64_t)a.heads * DIM, kv_stride = (int64_t)a.kv_heads * DIM, first = at.begin + at.first;
    if (at.sequence == a.sequences) {
        zero_rows(a.o, true, first, at.count, a.heads, h, DIM);
        for (int i = (int)threadIdx.x; i < at.count; i += MMA_THREADS) a.lse[(first + i) * a.heads + h] = 0.0f;
        return;
    }
    shared_t<bf16_t> q = shared_dynamic<bf16_t>(0, (QUERIES + 2 * KEYS) * STRIDE);
    shared_t<bf16_t> k = q + QUERIES * STRIDE, v = k + KEYS * STRIDE;
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, KEYS);
    const key_tile_t start = key_tile_at(a, walk, 0, kv, KEYS);
    copy_tile<DIM, QUERIES>(q, (const bf16_t *)a.q + first * q_stride + h * DIM, true, q_stride, at.count);
    copy_tile<DIM, KEYS>(k, start.k, start.bf16, kv_stride, start.count);
    async_commit();

    int warp_row = (int)threadIdx.x / 32 * 16 * FRAGMENTS, g = lane_id() / 4;
    float o[FRAGMENTS][DIM / 8][4] = {};
    softmax_t state[FRAGMENTS];
    for (int m = 0; m < FRAGMENTS; m++) state[m] = {{-INFINITY, -INFINITY}, {0.0f, 0.0f}};
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t now = key_tile_at(a, walk, n, kv, KEYS);
        async_wait<0>();
        block_sync();
        copy_tile<DIM, KEYS>(v, now.v, now.bf16, kv_stride, now.count);
        async_commit();
        /* Rows of a warp that see nothing of this tile, or that do not exist, leave it out. */
        bool used = warp_row < at.count && (!now.own || now.first < at.first + warp_row + 16 * FRAGMENTS);
        float s[FRAGMENTS][BLOCKS][4];
        if (used) rows_by_rows<DIM, FRAGMENTS, BLOCKS>(s, q + warp_row * STRIDE, k);
        async_wait<0>();
        block_sync();
        if (n + 1 < walk.tiles) {
            const key_tile_t next = key_tile_at(a, walk, n + 1, kv, KEYS);
            copy_tile<DIM, KEYS>(k, next.k, next.bf16, kv_stride, next.count);
        }
        async_commit();
        if (!used) continue;
#pragma unroll
        for (int m = 0; m < FRAGMENTS; m++) {
            int limit = now.own ? at.first + warp_row + 16 * m + g + 1 - now.first : now.count;
            softmax_tile<DIM, BLOCKS>(s[m], o[m], &state[m], a.scale * LOG2E, limit, 8, now.count);
        }
        add_weights_by_rows<DIM, FRAGMENTS, BLOCKS>(o, s, v);
    }
#pragma unroll
    for (int m = 0; m < FRAGMENTS; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int row = warp_row + 16 * m + g + 8 * half;
            float sum = quad_sum(state[m].sum[half]);
            if (row >= at.count) continue;
            put_fragment_row<DIM>((bf16_t *)a.o + (first + row) * q_stride + h * DIM, true, false, o[m], half,
                                  1.0f / sum);
            if (lane_id() % 4 == 0) a.lse[(first + row) * a.heads + h] = LN2 * state[m].max[half] + logf(sum);
        }
}

template <int DIM, int FRAGMENTS, int KEYS> static void forward_of(const attention_t *a, cudaStream_t stream) {
    constexpr int QUERIES = MMA_WARPS * 16 * FRAGMENTS;
    int64_t blocks = attention_slots(a->rows, QUERIES, a->sequences) * a->heads;
    launch(stream, dim3((unsigned)blocks), dim3(MMA_THREADS), (QUERIES + 2 * KEYS) * TILE_STRIDE<DIM> * sizeof(bf16_t),
           forward_mma<DIM, FRAGMENTS, KEYS>, *a);
}

bool attention_has_mma(int dim) {
    return dim == 16 || dim == 32 || dim == 64 || dim == 96 || dim == 128;
}

void attention_mma_forward(const attention_t *a, cudaStream_t stream) {
    switch (a->dim) {
    case 16:
        return forward_of<16, 1, 64>(a, stream);
    case 32:
        return forward_of<32, 1, 64>(a, stream);
    case 64:
        return forward_of<64, 2, 64>(a, stream);
    case 96:
        return forward_of<96, 2, 32>(a, stream);
    case 128:
        return forward_of<128, 2, 48>(a, stream);
    }
}
