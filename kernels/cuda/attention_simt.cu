/* Attention without tensor cores: every type, any head size up to ATTENTION_MAX_DIM, sums in float. This is the mode
 * that is compared with the CPU; it is limited by shared memory, not by what a tensor core could do.
 *
 * A block keeps ROWS rows (queries, or keys in keys_simt) in shared memory as float and lets STREAM rows of the other
 * kind pass by. LANES lanes of a warp share OWN rows, HALF apart: each makes their scores with every LANES-th passing
 * row and owns every LANES-th column of their sums. So scores go from lane to lane inside a warp and only the passing
 * rows need a block's barrier. */
#include "kernels/cuda/attention.cuh"

enum {
    ROWS = 32,
    OWN = 2,
    HALF = ROWS / OWN,
    STREAM = 16,
    LANES = 8,
    THREADS = HALF * LANES,
    SCORES = STREAM / LANES,             /* of a lane and row */
    COLUMNS = ATTENTION_MAX_DIM / LANES, /* of a lane, at most */
    SCORE_STRIDE = STREAM + 1,
};

/* Shared memory: two sets of ROWS rows, two of STREAM rows, the scores. Odd strides spread rows over the banks. */
typedef struct tiles {
    shared_t<float> kept, kept2, passing, passing2, scores;
    int stride;
} tiles_t;

static __host__ __device__ __forceinline__ int row_stride(int dim) {
    return dim | 1;
}

static size_t shared_bytes_of(int dim) {
    return (size_t)((2 * ROWS + 2 * STREAM) * row_stride(dim) + ROWS * SCORE_STRIDE) * sizeof(float);
}

static __device__ __forceinline__ tiles_t make_tiles(int dim) {
    int stride = row_stride(dim), kept = ROWS * stride, passing = STREAM * stride;
    shared_t<float> all = shared_dynamic<float>(0, 2 * kept + 2 * passing + ROWS * SCORE_STRIDE);
    return {all, all + kept, all + 2 * kept, all + (2 * kept + passing), all + 2 * (kept + passing), stride};
}

/* `total` rows of one head as floats, zero from row `count` on. */
static __device__ __forceinline__ void load_rows(shared_t<float> to, int stride, int total, const void *from, bool bf16,
                                                 int64_t from_stride, int count, int dim) {
    for (int i = (int)threadIdx.x; i < total * dim; i += THREADS) {
        int r = i / dim, c = i % dim;
        to[r * stride + c] = r < count ? load_real(from, bf16, r * from_stride + c) : 0.0f;
    }
}

/* s[r][i]: the inner product of kept row HALF r and passing row LANES i from the given ones on. */
static __device__ __forceinline__ void products(float (&s)[OWN][SCORES], shared_t<float> kept, shared_t<float> passing,
                                                int stride, int dim) {
#pragma unroll
    for (int r = 0; r < OWN; r++)
#pragma unroll
        for (int i = 0; i < SCORES; i++) s[r][i] = 0.0f;
    for (int c = 0; c < dim; c++) {
        float x[OWN], y[SCORES];
#pragma unroll
        for (int r = 0; r < OWN; r++) x[r] = kept[r * HALF * stride + c];
#pragma unroll
        for (int i = 0; i < SCORES; i++) y[i] = passing[i * LANES * stride + c];
#pragma unroll
        for (int r = 0; r < OWN; r++)
#pragma unroll
            for (int i = 0; i < SCORES; i++) s[r][i] += x[r] * y[i];
    }
}

static __device__ __forceinline__ float lanes_sum(float v) {
    for (int m = LANES / 2; m; m >>= 1) v += warp_xor(v, m);
    return v;
}
static __device__ __forceinline__ float lanes_max(float v) {
    for (int m = LANES / 2; m; m >>= 1) v = fmaxf(v, warp_xor(v, m));
    return v;
}

/* sum[r][i] += sum_j weight[j] rows[j][lane + LANES i] over `count` passing rows; weights of row HALF r. */
static __device__ __forceinline__ void add_weighted(float (&sum)[OWN][COLUMNS], shared_t<float> weight,
                                                    shared_t<float> rows, int stride, int count, int lane, int dim) {
    for (int j = 0; j < count; j++) {
        float w[OWN];
#pragma unroll
        for (int r = 0; r < OWN; r++) w[r] = weight[r * HALF * SCORE_STRIDE + j];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) {
            if (lane + LANES * i >= dim) continue;
            float x = rows[j * stride + lane + LANES * i];
#pragma unroll
            for (int r = 0; r < OWN; r++) sum[r][i] += w[r] * x;
        }
    }
}

static __device__ __forceinline__ void put_row(void *p, bool bf16, int64_t at, const float (&sum)[COLUMNS],
                                               float factor, bool acc, int lane, int dim) {
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        if (lane + LANES * i < dim) put_real(p, bf16, at + lane + LANES * i, factor * sum[i], acc);
}

/* Query i of its sequence sees passing key j of a tile. */
static __device__ __forceinline__ bool sees(const key_tile_t &y, int i, int j) {
    return j < y.count && (!y.own || y.first + j <= i);
}

/* Head of query tiles: blocks of late tiles, which have most keys, start first. */
static __device__ __forceinline__ place_t query_place(const attention_t &a, int *head) {
    int slots = (int)gridDim.x / a.heads, slot = slots - 1 - (int)blockIdx.x / a.heads;
    *head = (int)blockIdx.x % a.heads;
    return find_place(a.cu, a.sequences, a.rows, ROWS, slot);
}

static __global__ void __launch_bounds__(THREADS) forward_simt(attention_t a) {
    int h;
    const place_t at = query_place(a, &h);
    if (at.count <= 0) return;
    int row = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES, kv = h / (a.heads / a.kv_heads), dim = a.dim;
    int64_t q_stride = (int64_t)a.heads * dim, kv_stride = (int64_t)a.kv_heads * dim, first = at.begin + at.first;
    if (at.sequence == a.sequences) {
        zero_rows(a.o, a.bf16, first, at.count, a.heads, h, dim);
        for (int i = (int)threadIdx.x; i < at.count; i += THREADS) a.lse[(first + i) * a.heads + h] = 0.0f;
        return;
    }
    tiles_t t = make_tiles(dim);
    shared_t<float> p = t.scores + row * SCORE_STRIDE;
    float sum[OWN][COLUMNS] = {}, max[OWN] = {-INFINITY, -INFINITY}, total[OWN] = {};
    load_rows(t.kept, t.stride, ROWS, element(a.q, a.bf16, first * q_stride + h * dim), a.bf16, q_stride, at.count,
              dim);
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, STREAM);
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t y = key_tile_at(a, walk, n, kv, STREAM);
        load_rows(t.passing, t.stride, STREAM, y.k, y.bf16, kv_stride, y.count, dim);
        load_rows(t.passing2, t.stride, STREAM, y.v, y.bf16, kv_stride, y.count, dim);
        block_sync();
        float s[OWN][SCORES];
        products(s, t.kept + row * t.stride, t.passing + lane * t.stride, t.stride, dim);
#pragma unroll
        for (int r = 0; r < OWN; r++) {
            float tile_max = -INFINITY;
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                bool seen = sees(y, at.first + row + HALF * r, lane + LANES * i);
                s[r][i] = seen ? a.scale * s[r][i] : -INFINITY;
                tile_max = fmaxf(tile_max, s[r][i]);
            }
            /* The first tile has a key that every row sees, so the maximum is finite from then on. */
            float next = fmaxf(max[r], lanes_max(tile_max)), factor = expf(max[r] - next);
            max[r] = next;
            total[r] *= factor;
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                float e = expf(s[r][i] - next);
                p[r * HALF * SCORE_STRIDE + lane + LANES * i] = e;
                total[r] += e;
            }
#pragma unroll
            for (int i = 0; i < COLUMNS; i++) sum[r][i] *= factor;
        }
        warp_sync();
        add_weighted(sum, p, t.passing2, t.stride, y.count, lane, dim);
        block_sync();
    }
#pragma unroll
    for (int r = 0; r < OWN; r++) {
        int64_t mine = first + row + HALF * r;
        float all = lanes_sum(total[r]);
        if (row + HALF * r >= at.count) continue;
        put_row(a.o, a.bf16, mine * q_stride + h * dim, sum[r], 1.0f / all, false, lane, dim);
        if (lane == 0) a.lse[mine * a.heads + h] = max[r] + logf(all);
    }
}

static __global__ void __launch_bounds__(THREADS) queries_simt(attention_t a) {
    int h;
    const place_t at = query_place(a, &h);
    if (at.count <= 0) return;
    int row = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES, kv = h / (a.heads / a.kv_heads), dim = a.dim;
    int64_t q_stride = (int64_t)a.heads * dim, kv_stride = (int64_t)a.kv_heads * dim, first = at.begin + at.first;
    if (at.sequence == a.sequences) {
        if (!a.acc_q) zero_rows(a.dq, a.bf16, first, at.count, a.heads, h, dim);
        return;
    }
    tiles_t t = make_tiles(dim);
    shared_t<float> weight = t.scores + row * SCORE_STRIDE;
    int64_t place = first * q_stride + h * dim;
    float sum[OWN][COLUMNS] = {}, lse[OWN], delta[OWN];
#pragma unroll
    for (int r = 0; r < OWN; r++) {
        bool real = row + HALF * r < at.count; /* others have p = 0 */
        int64_t statistic = (first + row + HALF * r) * a.heads + h;
        lse[r] = real ? a.lse[statistic] : INFINITY;
        delta[r] = real ? a.delta[statistic] : 0.0f;
    }
    load_rows(t.kept, t.stride, ROWS, element(a.q, a.bf16, place), a.bf16, q_stride, at.count, dim);
    load_rows(t.kept2, t.stride, ROWS, element(a.gout, a.bf16, place), a.bf16, q_stride, at.count, dim);
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, STREAM);
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t y = key_tile_at(a, walk, n, kv, STREAM);
        load_rows(t.passing, t.stride, STREAM, y.k, y.bf16, kv_stride, y.count, dim);
        load_rows(t.passing2, t.stride, STREAM, y.v, y.bf16, kv_stride, y.count, dim);
        block_sync();
        float s[OWN][SCORES], dp[OWN][SCORES];
        products(s, t.kept + row * t.stride, t.passing + lane * t.stride, t.stride, dim);
        products(dp, t.kept2 + row * t.stride, t.passing2 + lane * t.stride, t.stride, dim);
#pragma unroll
        for (int r = 0; r < OWN; r++)
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                bool seen = sees(y, at.first + row + HALF * r, lane + LANES * i);
                float ds = seen ? expf(a.scale * s[r][i] - lse[r]) * (dp[r][i] - delta[r]) : 0.0f;
                weight[r * HALF * SCORE_STRIDE + lane + LANES * i] = ds;
            }
        warp_sync();
        add_weighted(sum, weight, t.passing, t.stride, y.count, lane, dim);
        block_sync();
    }
#pragma unroll
    for (int r = 0; r < OWN; r++)
        if (row + HALF * r < at.count)
            put_row(a.dq, a.bf16, place + (row + HALF * r) * q_stride, sum[r], a.scale, a.acc_q, lane, dim);
}

/* A block has ROWS keys of one key head; the queries of its group's heads pass by, head after head. */
static __global__ void __launch_bounds__(THREADS) keys_simt(attention_t a, attention_keys_t y) {
    int kv = (int)blockIdx.x % a.kv_heads, group = a.heads / a.kv_heads, dim = a.dim;
    const place_t at = find_place(y.cu, a.sequences, y.rows, ROWS, (int)blockIdx.x / a.kv_heads);
    if (at.count <= 0) return;
    int row = (int)threadIdx.x / LANES, lane = (int)threadIdx.x % LANES;
    int64_t q_stride = (int64_t)a.heads * dim, kv_stride = (int64_t)a.kv_heads * dim, first = at.begin + at.first;
    if (at.sequence == a.sequences) {
        if (y.dk && !y.acc_k) zero_rows(y.dk, y.bf16, first, at.count, a.kv_heads, kv, dim);
        if (y.dv && !y.acc_v) zero_rows(y.dv, y.bf16, first, at.count, a.kv_heads, kv, dim);
        return;
    }
    tiles_t t = make_tiles(dim);
    shared_t<float> weight = t.scores + row * SCORE_STRIDE;
    int64_t place = first * kv_stride + kv * dim;
    float dk[OWN][COLUMNS] = {}, dv[OWN][COLUMNS] = {};
    load_rows(t.kept, t.stride, ROWS, element(y.k, y.bf16, place), y.bf16, kv_stride, at.count, dim);
    if (y.dk) load_rows(t.kept2, t.stride, ROWS, element(y.v, y.bf16, place), y.bf16, kv_stride, at.count, dim);
    int begin = a.cu[at.sequence], length = a.cu[at.sequence + 1] - begin, from = y.own ? at.first : 0;
    for (int h = kv * group; h < (kv + 1) * group; h++)
        for (int i0 = from; i0 < length; i0 += STREAM) {
            int count = min((int)STREAM, length - i0);
            int64_t query = (begin + i0) * q_stride + h * dim, statistic = (int64_t)(begin + i0) * a.heads + h;
            load_rows(t.passing, t.stride, STREAM, element(a.q, a.bf16, query), a.bf16, q_stride, count, dim);
            load_rows(t.passing2, t.stride, STREAM, element(a.gout, a.bf16, query), a.bf16, q_stride, count, dim);
            block_sync();
            float p[OWN][SCORES], ds[OWN][SCORES];
            products(p, t.kept + row * t.stride, t.passing + lane * t.stride, t.stride, dim);
            if (y.dk) products(ds, t.kept2 + row * t.stride, t.passing2 + lane * t.stride, t.stride, dim);
#pragma unroll
            for (int i = 0; i < SCORES; i++) {
                int j = lane + LANES * i;
                int64_t one = statistic + (int64_t)min(j, count - 1) * a.heads;
                float lse = a.lse[one], delta = y.dk ? a.delta[one] : 0.0f;
#pragma unroll
                for (int r = 0; r < OWN; r++) {
                    bool seen = j < count && (!y.own || i0 + j >= at.first + row + HALF * r);
                    p[r][i] = seen ? expf(a.scale * p[r][i] - lse) : 0.0f;
                    ds[r][i] = seen && y.dk ? p[r][i] * (ds[r][i] - delta) : 0.0f;
                    weight[r * HALF * SCORE_STRIDE + j] = p[r][i];
                }
            }
            warp_sync();
            if (y.dv) add_weighted(dv, weight, t.passing2, t.stride, count, lane, dim);
            warp_sync();
#pragma unroll
            for (int r = 0; r < OWN; r++)
#pragma unroll
                for (int i = 0; i < SCORES; i++) weight[r * HALF * SCORE_STRIDE + lane + LANES * i] = ds[r][i];
            warp_sync();
            if (y.dk) add_weighted(dk, weight, t.passing, t.stride, count, lane, dim);
            block_sync();
        }
#pragma unroll
    for (int r = 0; r < OWN; r++) {
        if (row + HALF * r >= at.count) continue;
        int64_t to = place + (row + HALF * r) * kv_stride;
        if (y.dk) put_row(y.dk, y.bf16, to, dk[r], a.scale, y.acc_k, lane, dim);
        if (y.dv) put_row(y.dv, y.bf16, to, dv[r], 1.0f, y.acc_v, lane, dim);
    }
}

void attention_simt_forward(const attention_t *a, cudaStream_t stream) {
    int64_t blocks = attention_slots(a->rows, ROWS, a->sequences) * a->heads;
    launch(stream, dim3((unsigned)blocks), dim3(THREADS), shared_bytes_of(a->dim), forward_simt, *a);
}

void attention_simt_queries(const attention_t *a, cudaStream_t stream) {
    int64_t blocks = attention_slots(a->rows, ROWS, a->sequences) * a->heads;
    launch(stream, dim3((unsigned)blocks), dim3(THREADS), shared_bytes_of(a->dim), queries_simt, *a);
}

void attention_simt_keys(const attention_t *a, const attention_keys_t *y, cudaStream_t stream) {
    int64_t blocks = attention_slots(y->rows, ROWS, a->sequences) * a->kv_heads;
    launch(stream, dim3((unsigned)blocks), dim3(THREADS), shared_bytes_of(a->dim), keys_simt, *a, *y);
}
