/* The norms, alone and with the sum before them (kernels/ops/add_norm.h): rows, where their numbers come from and go
 * to, and launches. rmsnorm.cu and layernorm.cu have what they compute.
 *
 * A warp takes a row of up to 32 * EIGHT * held numbers, a block a longer one. A thread holds up to
 * `held` pieces of eight in registers between the passes over a row, which is all of the row up to 512 threads * EIGHT
 * * held numbers (16,384 forward, 8,192 backward); what is longer is read again from the cache.
 *
 * Bound by memory: two tensors forward, three backward (four where the gradient is added to); with the sum four
 * forward, and five backward (x, dy, the residual's gradient, and the two that are written). The gradients of w and b
 * read x and dy a second time (column_sums.cuh); they are wanted only where a base is trained. */
#pragma once
#include "kernels/cuda/column_sums.cuh"
extern "C" {
#include "kernels/ops/add_norm.h"
}

/* Kernels have __launch_bounds__(NORM_THREADS, 1): without the 1 the compiler aims at 64 registers and spills. */
enum { NORM_THREADS = 512, NORM_WARPS = 4 };
enum { FORWARD = 4, BACKWARD = 2 }; /* pieces held */

/* Which pieces of a row a thread has: those at (first + k step) EIGHT. */
struct norm_part_t {
    int64_t row, d;
    int first, step;
};

/* `warps`: rows of this block, 0: one, by all of its threads. */
__device__ __forceinline__ norm_part_t norm_part(int warps, int64_t d) {
    norm_part_t p = {(int64_t)blockIdx.x, d, (int)threadIdx.x, (int)blockDim.x};
    if (warps) {
        p.row = (int64_t)blockIdx.x * warps + threadIdx.x / 32;
        p.first = lane_id();
        p.step = 32;
    }
    return p;
}

/* PACKED: all rows are whole pieces at multiples of 16 bytes. */
template <bool PACKED, class T>
__device__ __forceinline__ void norm_load(const norm_part_t &p, const T *row, int64_t at, float (&v)[EIGHT]) {
    load_eight(row + at, PACKED ? (int64_t)EIGHT : p.d - at, PACKED, v);
}
template <bool PACKED, class T>
__device__ __forceinline__ void norm_store(const norm_part_t &p, T *row, int64_t at, bool acc,
                                           const float (&v)[EIGHT]) {
    store_eight(row + at, PACKED ? (int64_t)EIGHT : p.d - at, PACKED, acc, v);
}

/* f(at, k) for the pieces that are held, rest(at) for the others. */
template <int HELD, class F, class R> __device__ __forceinline__ void norm_pieces(const norm_part_t &p, F f, R rest) {
#pragma unroll
    for (int k = 0; k < HELD; k++) {
        int64_t at = (int64_t)(p.first + k * p.step) * EIGHT;
        if (at < p.d) f(at, k);
    }
    for (int64_t at = (int64_t)(p.first + HELD * p.step) * EIGHT; at < p.d; at += (int64_t)p.step * EIGHT) rest(at);
}

/* The sum over the threads of a row. */
__device__ __forceinline__ float norm_sum(int warps, float v, shared_t<float> part) {
    return warps ? warp_sum(v) : block_sum(v, part);
}

/* Where a row comes from: x, or a + b, which is written to s and is x from then on. */
template <class T> struct norm_from_t {
    const T *x, *a, *b;
    T *s;
};

/* The piece at `at` for the first time; later ones are norm_load of x. */
template <bool ADD, bool PACKED, class T>
__device__ __forceinline__ void norm_read(const norm_part_t &p, const norm_from_t<T> &from, int64_t at,
                                          float (&v)[EIGHT]) {
    if constexpr (ADD) {
        float w[EIGHT];
        norm_load<PACKED>(p, from.a + p.row * p.d, at, v);
        norm_load<PACKED>(p, from.b + p.row * p.d, at, w);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = to_float(from_float<T>(v[i] + w[i]));
        norm_store<PACKED>(p, from.s + p.row * p.d, at, false, v);
    } else {
        norm_load<PACKED>(p, from.x + p.row * p.d, at, v);
    }
}

/* Where the gradient of x goes: to dx, or with a sum to da and db, of which one may be absent. Before that `start`, if
 * there, is added to it; it may be dx or da. */
template <class T> struct norm_into_t {
    const T *start;
    T *da, *db; /* dx is da */
    bool acc_a, acc_b;
};

template <bool ADD, bool PACKED, class T>
__device__ __forceinline__ void norm_write(const norm_part_t &p, const norm_into_t<T> &into, int64_t at,
                                           float (&g)[EIGHT]) {
    if (into.start) {
        float v[EIGHT];
        norm_load<PACKED>(p, into.start + p.row * p.d, at, v);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) g[i] = v[i] + g[i];
    }
    if constexpr (ADD) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) g[i] = to_float(from_float<T>(g[i]));
        if (into.da) norm_store<PACKED>(p, into.da + p.row * p.d, at, into.acc_a, g);
        if (into.db) norm_store<PACKED>(p, into.db + p.row * p.d, at, into.acc_b, g);
    } else {
        norm_store<PACKED>(p, into.da + p.row * p.d, at, false, g);
    }
}

/* The launch for rows of d numbers. */
typedef struct {
    dim3 grid;
    unsigned threads;
    int warps;
} norm_grid_t;

static inline norm_grid_t norm_grid(int64_t rows, int64_t d, int held) {
    int64_t pieces = cuda_parts(d, EIGHT), threads = cuda_parts(pieces, 32 * held) * 32;
    if (threads <= 32) return {dim3((unsigned)cuda_parts(rows, NORM_WARPS)), 32 * NORM_WARPS, (int)NORM_WARPS};
    return {dim3((unsigned)rows), (unsigned)(threads < NORM_THREADS ? threads : (int64_t)NORM_THREADS), 0};
}

/* ---- launches: NORM is rmsnorm_t or layernorm_t of their files, ADD the sum before it ------------------------------
 */

static inline op_io_t norm_of(const op_io_t *io, bool add) {
    return add ? add_norm_inner(io) : *io;
}

template <class NORM> static inline size_t norm_scratch(const op_io_t *io) {
    return column_sums_scratch(io->in[0].dim[0], io->in[0].dim[1], NORM::SUMS);
}

template <class NORM, bool ADD> static inline void norm_forward(const op_io_t *io) {
    const op_io_t norm = norm_of(io, ADD);
    int64_t rows = norm.out[0].dim[0], d = norm.out[0].dim[1];
    norm_grid_t g = norm_grid(rows, d, FORWARD);
    float eps = (float)((const typename NORM::attr_t *)io->attr)->eps;
    with_real(norm.out[0].dtype, [&](auto one) {
        with_real(norm.in[1].dtype, [&](auto other) {
            using T = decltype(one);
            using W = decltype(other);
            norm_from_t<T> from = {(const T *)norm.in[0].data, NULL, NULL, NULL};
            if (ADD) {
                from.a = (const T *)io->in[ADD_NORM_A].data;
                from.b = (const T *)io->in[ADD_NORM_B].data;
                from.s = (T *)io->out[ADD_NORM_S].data;
            }
            const W *w = (const W *)norm.in[1].data, *bias = (const W *)norm.in[2].data;
            T *y = (T *)norm.out[0].data;
            bool packed = is_packed(from.x, from.a, from.b, w, bias, y) && d % EIGHT == 0;
            launch(cuda_stream(io), g.grid, g.threads, 0,
                   packed ? NORM::template forward<ADD, true, T, W>() : NORM::template forward<ADD, false, T, W>(),
                   g.warps, rows, d, eps, from, w, bias, y, (float *)norm.out[1].data);
        });
    });
}

template <class NORM> static inline void sum_norm_forward(const op_io_t *io) {
    const op_io_t norm = add_norm_inner(io);
    if (io->in[ADD_NORM_A].data)
        norm_forward<NORM, true>(io);
    else
        norm_forward<NORM, false>(&norm);
}

/* Of w, and of the bias where there is one. */
template <class NORM, class T> static inline void norm_weight_gradients(const op_io_t &norm) {
    int64_t rows = norm.gout.dim[0], d = norm.gout.dim[1];
    float *g[NORM::SUMS];
    bool acc[NORM::SUMS], any = false;
    for (int k = 0; k < NORM::SUMS; k++) {
        g[k] = (float *)norm.gin[1 + k].data;
        acc[k] = norm.acc[1 + k];
        any = any || g[k];
    }
    const T *dy = (const T *)norm.gout.data, *x = g[0] ? (const T *)norm.in[0].data : NULL;
    typename NORM::template terms_t<T> terms = {dy, x, (const float *)norm.out[1].data, d,
                                                is_packed(dy, x) && d % EIGHT == 0};
    if (any) column_sums<NORM::SUMS>(cuda_stream(&norm), rows, d, terms, norm.scratch, g, acc);
}

template <class NORM, bool ADD> static inline void norm_backward(const op_io_t *io) {
    const op_io_t norm = norm_of(io, ADD);
    int64_t rows = norm.gout.dim[0], d = norm.gout.dim[1];
    norm_grid_t g = norm_grid(rows, d, BACKWARD);
    with_real(norm.gout.dtype, [&](auto one) {
        using T = decltype(one);
        norm_weight_gradients<NORM, T>(norm);
        norm_into_t<T> into = {NULL, (T *)io->gin[0].data, NULL, false, false};
        if (ADD) {
            into.start = (const T *)io->gout.data;
            into.db = (T *)io->gin[ADD_NORM_B].data;
            into.acc_a = io->acc[ADD_NORM_A];
            into.acc_b = io->acc[ADD_NORM_B];
        } else if (io->acc[0]) {
            into.start = into.da;
        }
        if (ADD && !norm.gout.data) cuda_add_bwd(io);
        if (!norm.gout.data || (!into.da && !into.db)) return;
        with_real(norm.in[1].dtype, [&](auto other) {
            using W = decltype(other);
            const T *dy = (const T *)norm.gout.data, *x = (const T *)norm.in[0].data;
            const W *w = (const W *)norm.in[1].data;
            bool packed = is_packed(dy, x, w, into.start, into.da, into.db) && d % EIGHT == 0;
            launch(cuda_stream(io), g.grid, g.threads, 0,
                   packed ? NORM::template backward<ADD, true, T, W>() : NORM::template backward<ADD, false, T, W>(),
                   g.warps, rows, d, dy, x, w, (const float *)norm.out[1].data, into);
        });
    });
}

/* What a norm gives to these templates besides. */
#define NORM_KERNELS(kernel, gradient)                                                                                 \
    template <bool ADD, bool PACKED, class T, class W> static auto forward() {                                         \
        return kernel<ADD, PACKED, T, W>;                                                                              \
    }                                                                                                                  \
    template <bool ADD, bool PACKED, class T, class W> static auto backward() {                                        \
        return gradient<ADD, PACKED, T, W>;                                                                            \
    }
