/* Backward with tensor cores (FlashAttention-2, Dao 2023), in two passes that add nothing from two blocks. In both, a
 * block keeps a pair of tiles of KEPT rows (queries and do; keys and values), a warp has 16 of its rows, and pairs of
 * tiles of PASSING rows of the other kind go by, the next pair being copied while one is used.
 *
 * With queries kept: s = q k^T, dp = do v^T, ds = p (dp - delta), dq += ds k.
 * With keys kept:    s^T = k q^T, dp^T = v do^T, dv += p^T do, dk += ds^T q.
 * The second are the first's transposes, so that p^T and ds^T come out in the layout of left operands and never leave
 * the registers.
 *
 * Floor: FlashAttention-2 (attention_mma_fwd.cu); 7 products in place of its 5 are the price of equal bits, so at best
 * 0.71 of its backward. */
#include "kernels/cuda/attention_tile.cuh"

enum { KEPT = MMA_WARPS * 16 };

static constexpr float LOG2E = 1.44269504f;

/* Passing rows per tile: two pairs of them and the pair that is kept fit 99 KiB of shared memory, and the sums a
 * thread's registers. */
template <int DIM> constexpr int PASSING = DIM > 64 ? 32 : 64;

/* Shared memory: the kept pair, two passing pairs; behind them two times two statistics of passing queries. */
template <int DIM>
constexpr size_t PAIR_BYTES = (size_t)(2 * KEPT + 4 * PASSING<DIM>)*TILE_STRIDE<DIM> * sizeof(bf16_t);

/* p and dp become ds. s: scores, p = 2^(scale s - lse), 0 beyond `sees` rows of the other kind for row g and `sees` +
 * step for row g + 8. */
template <int BLOCKS>
static __device__ __forceinline__ void score_gradient(float (&s)[BLOCKS][4], const float (&dp)[BLOCKS][4],
                                                      const float (&lse)[2], const float (&delta)[2], float scale,
                                                      int limit, int step, int count) {
    int t = lane_id() % 4;
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            int half = i / 2;
            bool sees = 8 * n + 2 * t + i % 2 < min(limit + half * step, count);
            float p = sees ? exp2f(s[n][i] * scale - lse[half]) : 0.0f;
            s[n][i] = p * (dp[n][i] - delta[half]);
        }
}

template <int DIM> static __global__ void __launch_bounds__(MMA_THREADS) queries_mma(attention_t a) {
    constexpr int KEYS = PASSING<DIM>, STRIDE = TILE_STRIDE<DIM>, BLOCKS = KEYS / 8;
    int h = (int)blockIdx.x % a.heads, slots = (int)gridDim.x / a.heads, kv = h / (a.heads / a.kv_heads);
    const place_t at = find_place(a.cu, a.sequences, a.rows, KEPT, slots - 1 - (int)blockIdx.x / a.heads);
    if (at.count <= 0) return;
    int64_t q_stride = (int64_t)a.heads * DIM, kv_stride = (int64_t)a.kv_heads * DIM, first = at.begin + at.first;
    if (at.sequence == a.sequences) {
        if (!a.acc_q) zero_rows(a.dq, true, first, at.count, a.heads, h, DIM);
        return;
    }
    shared_t<bf16_t> q = shared_dynamic<bf16_t>(0, (2 * KEPT + 4 * KEYS) * STRIDE), dout = q + KEPT * STRIDE;
    shared_t<bf16_t> passing = dout + KEPT * STRIDE;
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, KEYS);
    const key_tile_t start = key_tile_at(a, walk, 0, kv, KEYS);
    copy_tile<DIM, KEPT>(q, (const bf16_t *)a.q + first * q_stride + h * DIM, true, q_stride, at.count);
    copy_tile<DIM, KEPT>(dout, (const bf16_t *)a.gout + first * q_stride + h * DIM, true, q_stride, at.count);
    copy_tile<DIM, KEYS>(passing, start.k, start.bf16, kv_stride, start.count);
    copy_tile<DIM, KEYS>(passing + KEYS * STRIDE, start.v, start.bf16, kv_stride, start.count);
    async_commit();

    int warp_row = (int)threadIdx.x / 32 * 16, row = warp_row + lane_id() / 4;
    float lse[2], delta[2], dq[1][DIM / 8][4] = {};
#pragma unroll
    for (int half = 0; half < 2; half++) {
        bool real = row + 8 * half < at.count; /* others have p = 0 */
        int64_t i = (first + row + 8 * half) * a.heads + h;
        lse[half] = real ? LOG2E * a.lse[i] : INFINITY;
        delta[half] = real ? a.delta[i] : 0.0f;
    }
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t now = key_tile_at(a, walk, n, kv, KEYS);
        shared_t<bf16_t> k = passing + n % 2 * 2 * KEYS * STRIDE, v = k + KEYS * STRIDE;
        if (n + 1 < walk.tiles) {
            const key_tile_t next = key_tile_at(a, walk, n + 1, kv, KEYS);
            shared_t<bf16_t> to = passing + (n + 1) % 2 * 2 * KEYS * STRIDE;
            copy_tile<DIM, KEYS>(to, next.k, next.bf16, kv_stride, next.count);
            copy_tile<DIM, KEYS>(to + KEYS * STRIDE, next.v, next.bf16, kv_stride, next.count);
        }
        async_commit();
        async_wait<1>();
        block_sync();
        if (warp_row < at.count && (!now.own || now.first < at.first + warp_row + 16)) {
            float s[1][BLOCKS][4], dp[1][BLOCKS][4];
            rows_by_rows<DIM, 1, BLOCKS>(s, q + warp_row * STRIDE, k);
            rows_by_rows<DIM, 1, BLOCKS>(dp, dout + warp_row * STRIDE, v);
            score_gradient<BLOCKS>(s[0], dp[0], lse, delta, a.scale * LOG2E,
                                   now.own ? at.first + row + 1 - now.first : now.count, 8, now.count);
            add_weights_by_rows<DIM, 1, BLOCKS>(dq, s, k);
        }
        block_sync();
    }
#pragma unroll
    for (int half = 0; half < 2; half++)
        if (row + 8 * half < at.count)
            put_fragment_row<DIM>((bf16_t *)a.dq + (first + row + 8 * half) * q_stride + h * DIM, true, a.acc_q, dq[0],
                                  half, a.scale);
}

/* s^T becomes p^T, dp^T becomes ds^T: columns are queries, whose statistics are in shared memory. Row g sees queries
 * from `hidden` on, row g + 8 from `hidden` + 8 on. */
template <int BLOCKS>
static __device__ __forceinline__ void score_gradient_of_keys(float (&s)[BLOCKS][4], float (&dp)[BLOCKS][4],
                                                              shared_t<float> lse, shared_t<float> delta, float scale,
                                                              int hidden, bool want_ds) {
    int t = lane_id() % 4;
#pragma unroll
    for (int n = 0; n < BLOCKS; n++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
            int column = 8 * n + 2 * t + i;
            float l = lse[column], d = want_ds ? (float)delta[column] : 0.0f;
#pragma unroll
            for (int half = 0; half < 2; half++) {
                float &p = s[n][2 * half + i], &ds = dp[n][2 * half + i];
                p = column >= hidden + 8 * half ? exp2f(p * scale - l) : 0.0f;
                if (want_ds) ds = p * (ds - d);
            }
        }
}

/* Tile n of the queries that pass by one key head: head after head of the group, tiles from `from` on. */
typedef struct query_walk {
    int begin, length, from, tiles_per_head, tiles, group;
} query_walk_t;

template <int DIM>
static __device__ __forceinline__ void copy_queries(const attention_t &a, const query_walk_t &w, int n, int kv,
                                                    bool want_ds, shared_t<bf16_t> to, shared_t<float> statistics) {
    constexpr int QUERIES = PASSING<DIM>, STRIDE = TILE_STRIDE<DIM>;
    int h = kv * w.group + n / w.tiles_per_head, i0 = w.from + n % w.tiles_per_head * QUERIES;
    int count = min(QUERIES, w.length - i0), i = (int)threadIdx.x;
    int64_t q_stride = (int64_t)a.heads * DIM, at = (w.begin + i0) * q_stride + h * DIM;
    copy_tile<DIM, QUERIES>(to, (const bf16_t *)a.q + at, true, q_stride, count);
    copy_tile<DIM, QUERIES>(to + QUERIES * STRIDE, (const bf16_t *)a.gout + at, true, q_stride, count);
    if (i >= QUERIES) return;
    int64_t statistic = (int64_t)(w.begin + i0 + i) * a.heads + h;
    statistics[i] = i < count ? LOG2E * a.lse[statistic] : INFINITY; /* p = 0 behind the last query */
    if (want_ds) statistics[QUERIES + i] = i < count ? a.delta[statistic] : 0.0f;
}

template <int DIM>
static __global__ void __launch_bounds__(MMA_THREADS, 2) keys_mma(attention_t a, attention_keys_t y) {
    constexpr int QUERIES = PASSING<DIM>, STRIDE = TILE_STRIDE<DIM>, BLOCKS = QUERIES / 8;
    int kv = (int)blockIdx.x % a.kv_heads;
    const place_t at = find_place(y.cu, a.sequences, y.rows, KEPT, (int)blockIdx.x / a.kv_heads);
    if (at.count <= 0) return;
    int64_t kv_stride = (int64_t)a.kv_heads * DIM, first = at.begin + at.first, place = first * kv_stride + kv * DIM;
    if (at.sequence == a.sequences) {
        if (y.dk && !y.acc_k) zero_rows(y.dk, y.bf16, first, at.count, a.kv_heads, kv, DIM);
        if (y.dv && !y.acc_v) zero_rows(y.dv, y.bf16, first, at.count, a.kv_heads, kv, DIM);
        return;
    }
    shared_t<bf16_t> k = shared_dynamic<bf16_t>(0, (2 * KEPT + 4 * QUERIES) * STRIDE), v = k + KEPT * STRIDE;
    shared_t<bf16_t> passing = v + KEPT * STRIDE;
    shared_t<float> statistics = shared_dynamic<float>(PAIR_BYTES<DIM>, 4 * QUERIES);
    query_walk_t walk;
    walk.begin = a.cu[at.sequence];
    walk.length = a.cu[at.sequence + 1] - walk.begin;
    walk.from = y.own ? at.first : 0;
    walk.group = a.heads / a.kv_heads;
    walk.tiles_per_head = (walk.length - walk.from + QUERIES - 1) / QUERIES;
    walk.tiles = walk.tiles_per_head * walk.group;
    bool want_ds = y.dk != NULL;
    copy_tile<DIM, KEPT>(k, element(y.k, y.bf16, place), y.bf16, kv_stride, at.count);
    if (want_ds) copy_tile<DIM, KEPT>(v, element(y.v, y.bf16, place), y.bf16, kv_stride, at.count);
    if (walk.tiles) copy_queries<DIM>(a, walk, 0, kv, want_ds, passing, statistics);
    async_commit();

    int warp_row = (int)threadIdx.x / 32 * 16, row = warp_row + lane_id() / 4;
    float dk[1][DIM / 8][4] = {}, dv[1][DIM / 8][4] = {};
    for (int n = 0; n < walk.tiles; n++) {
        shared_t<bf16_t> q = passing + n % 2 * 2 * QUERIES * STRIDE, dout = q + QUERIES * STRIDE;
        shared_t<float> lse = statistics + n % 2 * 2 * QUERIES;
        if (n + 1 < walk.tiles)
            copy_queries<DIM>(a, walk, n + 1, kv, want_ds, passing + (n + 1) % 2 * 2 * QUERIES * STRIDE,
                              statistics + (n + 1) % 2 * 2 * QUERIES);
        async_commit();
        async_wait<1>();
        block_sync();
        int i0 = walk.from + n % walk.tiles_per_head * QUERIES;
        if (warp_row < at.count && (!y.own || i0 + QUERIES > at.first + warp_row)) {
            float s[1][BLOCKS][4], dp[1][BLOCKS][4];
            rows_by_rows<DIM, 1, BLOCKS>(s, k + warp_row * STRIDE, q);
            if (want_ds) rows_by_rows<DIM, 1, BLOCKS>(dp, v + warp_row * STRIDE, dout);
            score_gradient_of_keys<BLOCKS>(s[0], dp[0], lse, lse + QUERIES, a.scale * LOG2E,
                                           y.own ? at.first + row - i0 : -8, want_ds);
            if (y.dv) add_weights_by_rows<DIM, 1, BLOCKS>(dv, s, dout);
            if (want_ds) add_weights_by_rows<DIM, 1, BLOCKS>(dk, dp, q);
        }
        block_sync();
    }
    async_wait<0>();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        if (row + 8 * half >= at.count) continue;
        int64_t to = place + (row + 8 * half) * kv_stride;
        if (y.dk) put_fragment_row<DIM>(element(y.dk, y.bf16, to), y.bf16, y.acc_k, dk[0], half, a.scale);
        if (y.dv) put_fragment_row<DIM>(element(y.dv, y.bf16, to), y.bf16, y.acc_v, dv[0], half, 1.0f);
    }
}

template <int DIM> static void queries_of(const attention_t *a, cudaStream_t stream) {
    int64_t blocks = attention_slots(a->rows, KEPT, a->sequences) * a->heads;
    launch(stream, dim3((unsigned)blocks), dim3(MMA_THREADS), PAIR_BYTES<DIM>, queries_mma<DIM>, *a);
}

template <int DIM> static void keys_of(const attention_t *a, const attention_keys_t *y, cudaStream_t stream) {
    int64_t blocks = attention_slots(y->rows, KEPT, a->sequences) * a->kv_heads;
    launch(stream, dim3((unsigned)blocks), dim3(MMA_THREADS), PAIR_BYTES<DIM> + 4 * PASSING<DIM> * sizeof(float),
           keys_mma<DIM>, *a, *y);
}

void attention_mma_queries(const attention_t *a, cudaStream_t stream) {
    switch (a->dim) {
    case 16:
        return queries_of<16>(a, stream);
    case 32:
        return queries_of<32>(a, stream);
    case 64:
        return queries_of<64>(a, stream);
    case 96:
        return queries_of<96>(a, stream);
    case 128:
        return queries_of<128>(a, stream);
    }
}

void attention_mma_keys(const attention_t *a, const attention_keys_t *y, cudaStream_t stream) {
    switch (a->dim) {
    case 16:
        return keys_of<16>(a, y, stream);
    case 32:
        return keys_of<32>(a, y, stream);
    case 64:
        return keys_of<64>(a, y, stream);
    case 96:
        return keys_of<96>(a, y, stream);
    case 128:
        return keys_of<128>(a, y, stream);
    }
}
