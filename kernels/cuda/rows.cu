#include "kernels/cuda/rows.cuh"

enum { TILE = 512, SUM_THREADS = 128 };

/* ---- taking ------------------------------------------------------------------------------------------------------ */

template <class W, class T>
static __global__ void take_kernel(piece_rows_t r, bool packed, row_map_t m, const W *table, const T *x, T *y) {
    int64_t n = piece_row(r);
    if (n < 0) return;
    int64_t row = row_map_at(m, n);
    if (row < 0 && x == y) return;
    for (int64_t at = piece_first(r) * EIGHT; at < m.d; at += r.width * EIGHT) {
        float v[EIGHT] = {0};
        if (row >= 0)
            load_eight(table + row * m.width + m.col + at, m.d - at, packed, v);
        else if (x)
            load_eight(x + n * m.d + at, m.d - at, packed, v);
        store_eight(y + n * m.d + at, m.d - at, packed, false, v);
    }
}

void rows_take(cudaStream_t stream, const row_map_t &m, const view_t *table, const view_t *x, const view_t *y) {
    piece_rows_t r = piece_rows(m.n, m.d);
    bool packed = is_packed(table->data, x->data, y->data) && (m.d | m.width | m.col) % EIGHT == 0;
    with_real(y->dtype, [&](auto one) {
        with_real(table->dtype, [&](auto other) {
            using T = decltype(one);
            using W = decltype(other);
            launch(stream, piece_rows_grid(r), PIECE_THREADS, 0, take_kernel<W, T>, r, packed, m,
                   (const W *)table->data, (const T *)x->data, (T *)y->data);
        });
    });
}

/* ---- sorting -------------------------------------------------------------------------------------------------------
 */

/* A number in the upper half, n in the lower: all are different, so any sort gives the same. Those without a row come
 * last. */
typedef uint64_t pair_t;

static __device__ __forceinline__ pair_t pair_of(const row_map_t &m, int64_t n) {
    int64_t row = n < m.n ? row_map_at(m, n) : -1;
    return (pair_t)(uint32_t)(row < 0 ? INT32_MAX : row) << 32 | (uint32_t)n;
}
static __device__ __forceinline__ int64_t row_of(pair_t p) {
    return (int64_t)(p >> 32);
}

/* How many of the sorted a[0], ..., a[n-1] are smaller than p. */
template <class A> static __device__ __forceinline__ int64_t rank_in(A a, int64_t n, pair_t p) {
    int64_t low = 0;
    while (n > 0) {
        int64_t step = n / 2;
        pair_t middle = a[low + step];
        low = middle < p ? low + step + 1 : low;
        n = middle < p ? n - step - 1 : step;
    }
    return low;
}

/* Where element i goes when runs of `run` are merged by twos; `all` elements. */
template <class A>
static __device__ __forceinline__ int64_t merged_place(A a, int64_t all, int64_t run, int64_t i, pair_t p) {
    int64_t own = i / run * run, other = own ^ run, both = own < other ? own : other;
    int64_t many = other >= all ? 0 : all - other < run ? all - other : run;
    return both + (i - own) + rank_in(a + (many ? other : 0), many, p);
}

static __global__ void __launch_bounds__(TILE) tile_kernel(row_map_t m, pair_t *sorted) {
    SHARED(pair_t, pair, 2 * TILE);
    int64_t n = (int64_t)blockIdx.x * TILE + threadIdx.x;
    int from = 0;
    pair[threadIdx.x] = pair_of(m, n);
    block_sync();
    for (int run = 1; run < TILE; run *= 2) {
        pair_t p = pair[from + (int)threadIdx.x];
        int64_t to = merged_place(pair + from, TILE, run, threadIdx.x, p);
        pair[(from ^ TILE) + to] = p;
        from ^= TILE;
        block_sync();
    }
    if (n < m.n) sorted[n] = pair[from + (int)threadIdx.x];
}

static __global__ void __launch_bounds__(TILE) merge_kernel(int64_t n, int64_t run, const pair_t *from, pair_t *to) {
    int64_t i = (int64_t)blockIdx.x * TILE + threadIdx.x;
    if (i < n) to[merged_place(from, n, run, i, from[i])] = from[i];
}

/* `scratch` has room for 2 n pairs. */
static const pair_t *sort_pairs(cudaStream_t stream, const row_map_t &m, pair_t *scratch) {
    dim3 grid((unsigned)cuda_parts(m.n, TILE));
    pair_t *from = scratch, *to = scratch + m.n;
    launch(stream, grid, TILE, 0, tile_kernel, m, from);
    for (int64_t run = TILE; run < m.n; run *= 2) {
        launch(stream, grid, TILE, 0, merge_kernel, m.n, run, from, to);
        pair_t *was = from;
        from = to;
        to = was;
    }
    return from;
}

size_t rows_scratch(int64_t n) {
    return (size_t)n * 2 * sizeof(pair_t);
}

/* ---- summing -------------------------------------------------------------------------------------------------------
 */

/* Adds eight columns of dy's rows of pairs [from, to). The loads of several rows are under way at once. */
template <bool PACKED, class T>
static __device__ __forceinline__ void sum_rows(const row_map_t &m, const pair_t *sorted, int64_t from, int64_t to,
                                                const T *dy, int64_t count, float (&sum)[EIGHT]) {
#pragma unroll 4
    for (int64_t k = from; k < to; k++) {
        float v[EIGHT];
        load_eight(dy + (int64_t)(uint32_t)sorted[k] * m.d, PACKED ? (int64_t)EIGHT : count, PACKED, v);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum[i] += v[i];
    }
}

/* One thread: eight columns of a row of the table. */
template <class T, class G>
static __device__ __forceinline__ void sum_eight(const row_map_t &m, bool packed, const pair_t *sorted, int64_t from,
                                                 int64_t to, const T *dy, int64_t count, bool acc, G *g) {
    float sum[EIGHT] = {0};
    if (acc) load_eight(g, count, packed, sum);
    if (packed)
        sum_rows<true>(m, sorted, from, to, dy, count, sum);
    else
        sum_rows<false>(m, sorted, from, to, dy, count, sum);
    store_eight(g, count, packed, false, sum);
}

/* Added to: the block of a pair that is the first of its row sums the row; the others have nothing to do. */
template <class T, class G>
static __global__ void __launch_bounds__(SUM_THREADS)
    add_kernel(bool packed, row_map_t m, const pair_t *sorted, const T *dy, G *table) {
    int64_t k = blockIdx.x, row = row_of(sorted[k]), at = ((int64_t)blockIdx.y * SUM_THREADS + threadIdx.x) * EIGHT;
    if (row >= m.count || (k > 0 && row_of(sorted[k - 1]) == row) || at >= m.d) return;
    int64_t to = k + rank_in(sorted + k, m.n - k, (pair_t)(row + 1) << 32);
    sum_eight(m, packed, sorted, k, to, dy + at, m.d - at, true, table + row * m.width + m.col + at);
}

/* Overwritten: every row of the table is written once. */
template <class T, class G>
static __global__ void __launch_bounds__(SUM_THREADS)
    write_kernel(bool packed, row_map_t m, const pair_t *sorted, const T *dy, G *table) {
    int64_t row = blockIdx.x, at = ((int64_t)blockIdx.y * SUM_THREADS + threadIdx.x) * EIGHT;
    if (at >= m.d) return;
    int64_t from = rank_in(sorted, m.n, (pair_t)row << 32);
    int64_t to = from + rank_in(sorted + from, m.n - from, (pair_t)(row + 1) << 32);
    if (row >= m.count) to = from;
    sum_eight(m, packed, sorted, from, to, dy + at, m.d - at, false, table + row * m.width + m.col + at);
}

template <class G> static __global__ void zero_kernel(int64_t n, bool packed, G *g) {
    int64_t at = piece_at();
    float zero[EIGHT] = {0};
    if (at < n) store_eight(g + at, n - at, packed, false, zero);
}

void rows_sum(cudaStream_t stream, const row_map_t &m, const view_t *dy, void *scratch, bool acc,
              const view_t *dtable) {
    const pair_t *sorted = sort_pairs(stream, m, (pair_t *)scratch);
    bool packed = is_packed(dy->data, dtable->data) && (m.d | m.width | m.col) % EIGHT == 0;
    int64_t all = view_count(dtable);
    unsigned parts = (unsigned)cuda_parts(m.d, EIGHT * SUM_THREADS);
    int64_t pieces = cuda_parts(cuda_parts(m.d, EIGHT), 32) * 32;
    unsigned threads = (unsigned)(pieces < SUM_THREADS ? pieces : (int64_t)SUM_THREADS);
    with_real(dy->dtype, [&](auto one) {
        with_real(dtable->dtype, [&](auto other) {
            using T = decltype(one);
            using G = decltype(other);
            const T *from = (const T *)dy->data;
            G *to = (G *)dtable->data;
            if (!acc && m.d < m.width) /* columns that no row meets */
                launch(stream, piece_grid(all), PIECE_THREADS, 0, zero_kernel<G>, all, is_packed(to), to);
            if (acc)
                launch(stream, dim3((unsigned)m.n, parts), threads, 0, add_kernel<T, G>, packed, m, sorted, from, to);
            else
                launch(stream, dim3((unsigned)dtable->dim[0], parts), threads, 0, write_kernel<T, G>, packed, m, sorted,
                       from, to);
        });
    });
}
