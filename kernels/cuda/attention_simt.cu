/* Attention without tensor cores: every type, any head size up to ATTENTION_MAX_DIM, sums in float. This is the mode
 * that is compared with the CPU; it is limited by shared memory, not by what a tensor core could do.
 *
 * A block keeps ROWS rows (queries, or keys in keys_simt) in shared memory as float and lets STREAM rows of the other
 * kind pass by. LANES lanes of a warp share a row: each makes the scores of every LANES-th passing row and owns every
 * LANES-th column of the row's sums. So scores go from lane to lane inside a warp and only the passing rows need a
 * block's barrier. */
#include "kernels/cuda/attention.cuh"

enum {
    ROWS = 32,
    STREAM = 16,
    LANES = 8,
    THREADS = ROWS * LANES,
    SCORES = STREAM / LANES,             /* of a lane */
    COLUMNS = ATTENTION_MAX_DIM / LANES, /* of a lane, at most */
    SCORE_STRIDE = STREAM + 1,
};

/* Shared memory: two sets of ROWS rows, two of STREAM rows, the scores. Odd strides spread rows over the banks. */
typedef struct tiles {
    shared_t<float> kept, kept2, passing, passing2, scores;
    int stride;
} tiles_t;

__host__ __device__ __forceinline__ int row_stride(int dim) {
    return dim | 1;
}

static size_t shared_bytes_of(int dim) {
    return (size_t)((2 * ROWS + 2 * STREAM) * row_stride(dim) + ROWS * SCORE_STRIDE) * sizeof(float);
}

__device__ __forceinline__ tiles_t make_tiles(int dim) {
    int stride = row_stride(dim), kept = ROWS * stride, passing = STREAM * stride;
    shared_t<float> all = shared_dynamic<float>(0, 2 * kept + 2 * passing + ROWS * SCORE_STRIDE);
    return {all, all + kept, all + 2 * kept, all + (2 * kept + passing), all + 2 * (kept + passing), stride};
}

/* `total` rows of one head as floats, zero from row `count` on. */
__device__ __forceinline__ void load_rows(shared_t<float> to, int stride, int total, const void *from, bool bf16,
                                          int64_t from_stride, int count, int dim) {
    for (int i = (int)threadIdx.x; i < total * dim; i += THREADS) {
        int r = i / dim, c = i % dim;
        to[r * stride + c] = r < count ? load_real(from, bf16, r * from_stride + c) : 0.0f;
    }
}

__device__ __forceinline__ float dot(shared_t<float> x, shared_t<float> y, int dim) {
    float sum = 0.0f;
    for (int c = 0; c < dim; c++) sum += x[c] * y[c];
    return sum;
}

__device__ __forceinline__ float lanes_sum(float v) {
    for (int m = LANES / 2; m; m >>= 1) v += warp_xor(v, m);
    return v;
}
__device__ __forceinline__ float lanes_max(float v) {
    for (int m = LANES / 2; m; m >>= 1) v = fmaxf(v, warp_xor(v, m));
    return v;
}

/* sum[i] += sum_j weight[j] rows[j][lane + LANES i] over `count` passing rows. */
__device__ __forceinline__ void add_weighted(float (&sum)[COLUMNS], shared_t<float> weight, shared_t<float> rows,
                                             int stride, int count, int lane, int dim) {
    for (int j = 0; j < count; j++) {
        float w = weight[j];
#pragma unroll
        for (int i = 0; i < COLUMNS; i++)
            if (lane + LANES * i < dim) sum[i] += w * rows[j * stride + lane + LANES * i];
    }
}

__device__ __forceinline__ void put_row(void *p, bool bf16, int64_t at, const float (&sum)[COLUMNS], float factor,
                                        bool acc, int lane, int dim) {
#pragma unroll
    for (int i = 0; i < COLUMNS; i++)
        if (lane + LANES * i < dim) put_real(p, bf16, at + lane + LANES * i, factor * sum[i], acc);
}

/* Head of query tiles: blocks of late tiles, which have most keys, start first. */
__device__ __forceinline__ place_t query_place(const attention_t &a, int *head) {
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
        if (lane == 0 && row < at.count) a.lse[(first + row) * a.heads + h] = 0.0f;
        return;
    }
    tiles_t t = make_tiles(dim);
    shared_t<float> q = t.kept + row * t.stride, p = t.scores + row * SCORE_STRIDE;
    float sum[COLUMNS] = {}, max = -INFINITY, total = 0.0f;
    load_rows(t.kept, t.stride, ROWS, element(a.q, a.bf16, first * q_stride + h * dim), a.bf16, q_stride, at.count,
              dim);
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, STREAM);
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t y = key_tile_at(a, walk, n, kv, STREAM);
        load_rows(t.passing, t.stride, STREAM, y.k, y.bf16, kv_stride, y.count, dim);
        load_rows(t.passing2, t.stride, STREAM, y.v, y.bf16, kv_stride, y.count, dim);
        block_sync();
        float s[SCORES], tile_max = -INFINITY;
        for (int i = 0; i < SCORES; i++) {
            int j = lane + LANES * i;
            bool sees = j < y.count && (!y.own || y.first + j <= at.first + row);
            s[i] = sees ? a.scale * dot(q, t.passing + j * t.stride, dim) : -INFINITY;
            tile_max = fmaxf(tile_max, s[i]);
        }
        /* The first tile has a key that every row sees, so the maximum is finite from then on. */
        float next = fmaxf(max, lanes_max(tile_max)), factor = expf(max - next);
        max = next;
        total *= factor;
        for (int i = 0; i < SCORES; i++) {
            float e = expf(s[i] - max);
            p[lane + LANES * i] = e;
            total += e;
        }
#pragma unroll
        for (int i = 0; i < COLUMNS; i++) sum[i] *= factor;
        warp_sync();
        add_weighted(sum, p, t.passing2, t.stride, y.count, lane, dim);
        block_sync();
    }
    total = lanes_sum(total);
    if (row >= at.count) return;
    put_row(a.o, a.bf16, (first + row) * q_stride + h * dim, sum, 1.0f / total, false, lane, dim);
    if (lane == 0) a.lse[(first + row) * a.heads + h] = max + logf(total);
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
    shared_t<float> q = t.kept + row * t.stride, dout = t.kept2 + row * t.stride, ds = t.scores + row * SCORE_STRIDE;
    int64_t place = first * q_stride + h * dim, statistic = (first + row) * a.heads + h;
    float sum[COLUMNS] = {};
    float lse = row < at.count ? a.lse[statistic] : 0.0f, delta = row < at.count ? a.delta[statistic] : 0.0f;
    load_rows(t.kept, t.stride, ROWS, element(a.q, a.bf16, place), a.bf16, q_stride, at.count, dim);
    load_rows(t.kept2, t.stride, ROWS, element(a.gout, a.bf16, place), a.bf16, q_stride, at.count, dim);
    const key_walk_t walk = walk_keys(a, at.sequence, at.first + at.count, STREAM);
    for (int n = 0; n < walk.tiles; n++) {
        const key_tile_t y = key_tile_at(a, walk, n, kv, STREAM);
        load_rows(t.passing, t.stride, STREAM, y.k, y.bf16, kv_stride, y.count, dim);
        load_rows(t.passing2, t.stride, STREAM, y.v, y.bf16, kv_stride, y.count, dim);
        block_sync();
        for (int i = 0; i < SCORES; i++) {
            int j = lane + LANES * i;
            bool sees = row < at.count && j < y.count && (!y.own || y.first + j <= at.first + row);
            float g = 0.0f;
            if (sees)
                g = expf(a.scale * dot(q, t.passing + j * t.stride, dim) - lse) *
                    (dot(dout, t.passing2 + j * t.stride, dim) - delta);
            ds[j] = g;
        }
        warp_sync();
        add_weighted(sum, ds, t.passing, t.stride, y.count, lane, dim);
        block_sync();
    }
    if (row < at.count) put_row(a.dq, a.bf16, place + row * q_stride, sum, a.scale, a.acc_q, lane, dim);
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
    shared_t<float> k = t.kept + row * t.stride, v = t.kept2 + row * t.stride, w = t.scores + row * SCORE_STRIDE;
    int64_t place = first * kv_stride + kv * dim;
    float dk[COLUMNS] = {}, dv[COLUMNS] = {};
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
            float ds[SCORES];
            for (int i = 0; i < SCORES; i++) {
                int j = lane + LANES * i;
                bool sees = j < count && (!y.own || i0 + j >= at.first + row);
                float p = 0.0f;
                ds[i] = 0.0f;
                if (sees) {
                    int64_t one = statistic + (int64_t)j * a.heads;
                    p = expf(a.scale * dot(k, t.passing + j * t.stride, dim) - a.lse[one]);
                    if (y.dk) ds[i] = p * (dot(v, t.passing2 + j * t.stride, dim) - a.delta[one]);
                }
                w[j] = p;
            }
            warp_sync();
            if (y.dv) add_weighted(dv, w, t.passing2, t.stride, count, lane, dim);
            warp_sync();
            for (int i = 0; i < SCORES; i++) w[lane + LANES * i] = ds[i];
            warp_sync();
            if (y.dk) add_weighted(dk, w, t.passing, t.stride, count, lane, dim);
            block_sync();
        }
    if (row >= at.count) return;
    if (y.dk) put_row(y.dk, y.bf16, place + row * kv_stride, dk, a.scale, y.acc_k, lane, dim);
    if (y.dv) put_row(y.dv, y.bf16, place + row * kv_stride, dv, 1.0f, y.acc_v, lane, dim);
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
