/* Attention over a key/value cache: few queries, long caches, limited by reading the cache once.
 *
 * The new rows are written into the cache first. Then a block takes one query of one head and a part of the places it
 * sees; where rows and heads are too few to fill a device, the places are cut into parts, whose number depends on
 * shapes alone, and a last kernel joins them in order. A block goes through its part in tiles of THREADS places: a
 * thread makes the score of one place, then owns one column of the values' sum (several threads a column where columns
 * are few). Scratch: with several parts, maximum, sum and unscaled output of each. */
#include <math.h>
#include "kernels/cuda/cuda.cuh"
extern "C" {
#include "kernels/ops/attention_cached.h"
}

enum {
    THREADS = 128,
    MAX_DIM = CUDA_HEAD_DIM_MAX,
    MAX_COLUMNS = MAX_DIM / THREADS, /* of a thread */
    PART_PLACES = 256,               /* at least, where there are several parts */
    BLOCKS_WANTED = 512,
};

typedef struct cached {
    const void *q, *k, *v, *prefix_k, *prefix_v;
    const int32_t *cu, *past, *cu_prefix;
    void *keys, *values, *o;
    float *partial; /* NULL: one part */
    bool bf16, prefix_bf16;
    int rows, prefix_rows, sequences, heads, kv_heads, dim, places, parts;
    float scale;
} cached_t;

/* The sequence that has row `row`; `sequences` behind the last one. */
static __device__ __forceinline__ int sequence_of(const int32_t *cu, int sequences, int row) {
    int low = 0, high = sequences;
    while (low < high) {
        int middle = (low + high) / 2;
        if (cu[middle + 1] <= row)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static __device__ __forceinline__ int prefix_of(const cached_t &a, int s) {
    return a.cu_prefix ? a.cu_prefix[s + 1] - a.cu_prefix[s] : 0;
}

static __device__ __forceinline__ float real_at(const void *p, bool bf16, int64_t i) {
    return bf16 ? to_float(((const bf16_t *)p)[i]) : ((const float *)p)[i];
}
static __device__ __forceinline__ void put_at(void *p, bool bf16, int64_t i, float v) {
    if (bf16)
        ((bf16_t *)p)[i] = from_float<bf16_t>(v);
    else
        ((float *)p)[i] = v;
}

/* One block per prefix row, then one per new row: into the cache. */
static __global__ void __launch_bounds__(THREADS) fill_cache(cached_t a) {
    bool own = (int)blockIdx.x >= a.prefix_rows;
    int row = (int)blockIdx.x - (own ? a.prefix_rows : 0);
    const int32_t *cu = own ? a.cu : a.cu_prefix;
    int s = sequence_of(cu, a.sequences, row), width = a.kv_heads * a.dim;
    if (s == a.sequences) return;
    int64_t place = a.past[s] + row - cu[s] + (own ? prefix_of(a, s) : 0);
    int64_t to = ((int64_t)s * a.places + place) * width, from = (int64_t)row * width;
    bool bf16 = own ? a.bf16 : a.prefix_bf16;
    for (int c = (int)threadIdx.x; c < width; c += THREADS) {
        put_at(a.keys, a.bf16, to + c, real_at(own ? a.k : a.prefix_k, bf16, from + c));
        put_at(a.values, a.bf16, to + c, real_at(own ? a.v : a.prefix_v, bf16, from + c));
    }
}

/* The inner product with a key, 16 bytes at a time where rows allow it. */
template <class T> static __device__ __forceinline__ float score(shared_t<float> q, const T *k, int dim) {
    constexpr int COUNT = pack_t<T>::COUNT;
    float sum = 0.0f;
    if (dim % COUNT != 0) {
        for (int c = 0; c < dim; c++) sum += q[c] * to_float(k[c]);
        return sum;
    }
    for (int c = 0; c < dim; c += COUNT) {
        const pack_t<T> piece = load_pack(k + c);
#pragma unroll
        for (int i = 0; i < COUNT; i++) sum += q[c + i] * to_float(piece.v[i]);
    }
    return sum;
}

static __device__ __forceinline__ float block_max(float v, shared_t<float> part) {
    v = warp_max(v);
    if (lane_id() == 0) part[threadIdx.x / 32] = v;
    block_sync();
    float max = part[0];
    for (int w = 1; w < THREADS / 32; w++) max = fmaxf(max, part[w]);
    block_sync();
    return max;
}

/* Adds p_j v_j of `count` places to the thread's columns: column, column + THREADS, ...; places from `from` on, every
 * `step`-th. */
template <class T>
static __device__ __forceinline__ void add_values(float (&sum)[MAX_COLUMNS], shared_t<float> p, const T *v,
                                                  int64_t stride, int count, int column, int from, int step, int dim) {
    for (int j = from; j < count; j += step) {
        float w = p[j];
#pragma unroll
        for (int i = 0; i < MAX_COLUMNS; i++)
            if (column + THREADS * i < dim) sum[i] += w * to_float(v[j * stride + column + THREADS * i]);
    }
}

template <class T> static __global__ void __launch_bounds__(THREADS) attend(cached_t a) {
    SHARED(float, q, MAX_DIM);
    SHARED(float, p, THREADS);
    SHARED(float, part_memory, 32);
    int part = (int)blockIdx.x % a.parts, task = (int)blockIdx.x / a.parts, h = task % a.heads, row = task / a.heads;
    int tid = (int)threadIdx.x, dim = a.dim, s = sequence_of(a.cu, a.sequences, row);
    int64_t at = (int64_t)task * dim, stride = (int64_t)a.kv_heads * dim;
    if (s == a.sequences) {
        for (int c = tid; c < dim && part == 0; c += THREADS) put_at(a.o, a.bf16, at + c, 0.0f);
        return;
    }
    int seen = a.past[s] + prefix_of(a, s) + row - a.cu[s] + 1, length = (seen + a.parts - 1) / a.parts;
    int first = part * length, end = min(seen, first + length);
    int64_t place = (int64_t)s * a.places * stride + h / (a.heads / a.kv_heads) * dim;
    const T *keys = (const T *)a.keys + place, *values = (const T *)a.values + place;
    for (int c = tid; c < dim; c += THREADS) q[c] = a.scale * real_at(a.q, a.bf16, at + c);
    block_sync();

    int groups = dim < THREADS ? THREADS / dim : 1, column = groups > 1 ? tid % dim : tid;
    int group = groups > 1 ? tid / dim : 0;
    float sum[MAX_COLUMNS] = {}, max = -INFINITY, total = 0.0f;
    for (int j0 = first; j0 < end; j0 += THREADS) {
        int count = min((int)THREADS, end - j0);
        float mine = tid < count ? score(q, keys + (j0 + tid) * stride, dim) : -INFINITY;
        float next = fmaxf(max, block_max(mine, part_memory)), factor = expf(max - next), e = expf(mine - next);
        max = next;
        p[tid] = e;
        total = total * factor + e; /* of this thread's places */
#pragma unroll
        for (int i = 0; i < MAX_COLUMNS; i++) sum[i] *= factor;
        block_sync();
        if (group < groups) add_values(sum, p, values + j0 * stride, stride, count, column, group, groups, dim);
        block_sync();
    }
    total = block_sum(total, part_memory);
    if (groups > 1) { /* dim * groups <= THREADS */
        if (group < groups) p[tid] = sum[0];
        block_sync();
        sum[0] = 0.0f;
        for (int g = 0; g < groups && tid < dim; g++) sum[0] += p[g * dim + tid];
    }
    float *partial = a.partial + (int64_t)blockIdx.x * (dim + 2);
    if (a.partial && tid == 0) {
        partial[0] = max;
        partial[1] = total;
    }
#pragma unroll
    for (int i = 0; i < MAX_COLUMNS; i++) {
        int c = tid + THREADS * i;
        if (c >= dim) continue;
        if (a.partial)
            partial[2 + c] = sum[i];
        else
            put_at(a.o, a.bf16, at + c, sum[i] / total);
    }
}

/* One block per query and head joins the parts, first to last. Parts of no places have the maximum -infinity. */
static __global__ void __launch_bounds__(THREADS) join_parts(cached_t a) {
    int row = (int)blockIdx.x / a.heads, stride = a.dim + 2;
    if (sequence_of(a.cu, a.sequences, row) == a.sequences) return;
    const float *partial = a.partial + (int64_t)blockIdx.x * a.parts * stride;
    float max = partial[0], total = 0.0f;
    for (int part = 1; part < a.parts; part++) max = fmaxf(max, partial[part * stride]);
    for (int part = 0; part < a.parts; part++) total += expf(partial[part * stride] - max) * partial[part * stride + 1];
    for (int c = (int)threadIdx.x; c < a.dim; c += THREADS) {
        float sum = 0.0f;
        for (int part = 0; part < a.parts; part++)
            sum += expf(partial[part * stride] - max) * partial[part * stride + 2 + c];
        put_at(a.o, a.bf16, (int64_t)blockIdx.x * a.dim + c, sum / total);
    }
}

static int64_t parts_of(const op_io_t *io) {
    const attention_cached_attr_t *at = (const attention_cached_attr_t *)io->attr;
    int64_t tasks = io->in[ATTENTION_CACHED_Q].dim[0] * at->heads, most = cuda_parts(at->places, PART_PLACES);
    int64_t wanted = tasks ? BLOCKS_WANTED / tasks : 1;
    return wanted < 1 ? 1 : wanted > most ? most : wanted;
}

/* Room for any number of rows up to those of io: fewer rows have more parts, but never more blocks than are wanted. */
size_t cuda_attention_cached_scratch(const op_io_t *io) {
    const attention_cached_attr_t *at = (const attention_cached_attr_t *)io->attr;
    return (size_t)(BLOCKS_WANTED * (at->head_dim + 2)) * sizeof(float);
}

void cuda_attention_cached_fwd(const op_io_t *io) {
    const attention_cached_attr_t *at = (const attention_cached_attr_t *)io->attr;
    const view_t *in = io->in, *cache = &in[ATTENTION_CACHED_CACHE], *prefix = &in[ATTENTION_CACHED_PREFIX_K];
    cached_t a = {};
    a.q = in[ATTENTION_CACHED_Q].data;
    a.k = in[ATTENTION_CACHED_K].data;
    a.v = in[ATTENTION_CACHED_V].data;
    a.prefix_k = prefix->data;
    a.prefix_v = in[ATTENTION_CACHED_PREFIX_V].data;
    a.cu = (const int32_t *)in[ATTENTION_CACHED_CU].data;
    a.past = (const int32_t *)in[ATTENTION_CACHED_PAST].data;
    a.cu_prefix = (const int32_t *)in[ATTENTION_CACHED_CU_PREFIX].data;
    a.bf16 = cache->dtype == DT_BF16;
    a.prefix_bf16 = prefix->dtype == DT_BF16;
    a.keys = cache->data;
    a.values = (char *)cache->data + view_bytes(cache) / 2;
    a.o = io->out[0].data;
    a.rows = (int)in[ATTENTION_CACHED_Q].dim[0];
    a.prefix_rows = a.cu_prefix ? (int)prefix->dim[0] : 0;
    a.sequences = (int)in[ATTENTION_CACHED_PAST].dim[0];
    a.heads = (int)at->heads;
    a.kv_heads = (int)at->kv_heads;
    a.dim = (int)at->head_dim;
    a.places = (int)at->places;
    a.scale = (float)at->scale;
    a.parts = (int)parts_of(io);
    a.partial = a.parts > 1 ? (float *)io->scratch : NULL;

    launch(cuda_stream(io), dim3((unsigned)(a.prefix_rows + a.rows)), dim3(THREADS), 0, fill_cache, a);
    unsigned tasks = (unsigned)(a.rows * a.heads);
    with_real(cache->dtype, [&](auto one) {
        launch(cuda_stream(io), dim3(tasks * (unsigned)a.parts), dim3(THREADS), 0, attend<decltype(one)>, a);
    });
    if (a.parts > 1) launch(cuda_stream(io), dim3(tasks), dim3(THREADS), 0, join_parts, a);
}
