/* rmsnorm and add_rmsnorm. Which rows threads have, launches and what the floor is: kernels/cuda/norm.cuh. */
#include "kernels/cuda/norm.cuh"
extern "C" {
#include "kernels/ops/rmsnorm.h"
}

template <bool ADD, bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    rmsnorm_kernel(int warps, int64_t rows, int64_t d, float eps, norm_from_t<T> from, const W *w, const W *, T *y,
                   float *rstd) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    const T *x = from.x + p.row * d;
    y += p.row * d;
    float held[FORWARD][EIGHT], sum = 0;
    auto square = [&](const float(&v)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum += v[i] * v[i];
    };
    norm_pieces<FORWARD>(
        p,
        [&](int64_t at, int k) {
            norm_read<ADD, PACKED>(p, from, at, held[k]);
            square(held[k]);
        },
        [&](int64_t at) {
            float v[EIGHT];
            norm_read<ADD, PACKED>(p, from, at, v);
            square(v);
        });
    float r = 1.0f / sqrtf(norm_sum(warps, sum, part) / (float)d + eps);
    auto scale = [&](int64_t at, float(&v)[EIGHT]) {
        float weight[EIGHT];
        norm_load<PACKED>(p, w, at, weight);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = v[i] * r * weight[i];
        norm_store<PACKED>(p, y, at, false, v);
    };
    norm_pieces<FORWARD>(
        p, [&](int64_t at, int k) { scale(at, held[k]); },
        [&](int64_t at) {
            float v[EIGHT];
            norm_load<PACKED>(p, x, at, v);
            scale(at, v);
        });
    if (p.first == 0) rstd[p.row] = r;
}

template <bool ADD, bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    rmsnorm_gradient(int warps, int64_t rows, int64_t d, const T *dy, const T *x, const W *w, const float *rstd,
                     norm_into_t<T> into) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    x += p.row * d;
    dy += p.row * d;
    float xs[BACKWARD][EIGHT], gs[BACKWARD][EIGHT], sum = 0, r = rstd[p.row];
    auto load = [&](int64_t at, float(&a)[EIGHT], float(&g)[EIGHT]) { /* x and g = dy w */
                                                                      float weight[EIGHT];
                                                                      norm_load<PACKED>(p, x, at, a);
                                                                      norm_load<PACKED>(p, dy, at, g);
                                                                      norm_load<PACKED>(p, w, at, weight);
#pragma unroll
                                                                      for (int i = 0; i < EIGHT; i++) g[i] *= weight[i];
    };
    auto product = [&](const float(&a)[EIGHT], const float(&g)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum += g[i] * a[i];
    };
    norm_pieces<BACKWARD>(
        p,
        [&](int64_t at, int k) {
            load(at, xs[k], gs[k]);
            product(xs[k], gs[k]);
        },
        [&](int64_t at) {
            float a[EIGHT], g[EIGHT];
            load(at, a, g);
            product(a, g);
        });
    float mean = r * r * (norm_sum(warps, sum, part) / (float)d);
    auto store = [&](int64_t at, const float(&a)[EIGHT], float(&g)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) g[i] = r * (g[i] - a[i] * mean);
        norm_write<ADD, PACKED>(p, into, at, g);
    };
    norm_pieces<BACKWARD>(
        p, [&](int64_t at, int k) { store(at, xs[k], gs[k]); },
        [&](int64_t at) {
            float a[EIGHT], g[EIGHT];
            load(at, a, g);
            store(at, a, g);
        });
}

/* The terms of dw. */
template <class T> struct rmsnorm_terms_t {
    const T *dy, *x;
    const float *rstd;
    int64_t d;
    bool packed;
    __device__ __forceinline__ void operator()(int64_t n, int64_t at, int64_t count, float (&v)[1][EIGHT]) const {
        float a[EIGHT], r = rstd[n];
        load_eight(dy + n * d + at, count, packed, v[0]);
        load_eight(x + n * d + at, count, packed, a);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[0][i] *= a[i] * r;
    }
};

namespace {
struct rmsnorm_t {
    using attr_t = rmsnorm_attr_t;
    template <class T> using terms_t = rmsnorm_terms_t<T>;
    enum { SUMS = 1 };
    NORM_KERNELS(rmsnorm_kernel, rmsnorm_gradient)
};
} // namespace

size_t cuda_rmsnorm_scratch(const op_io_t *io) {
    return norm_scratch<rmsnorm_t>(io);
}

void cuda_rmsnorm_fwd(const op_io_t *io) {
    norm_forward<rmsnorm_t, false>(io);
}

void cuda_rmsnorm_bwd(const op_io_t *io) {
    norm_backward<rmsnorm_t, false>(io);
}

size_t cuda_add_rmsnorm_scratch(const op_io_t *io) {
    return norm_scratch<rmsnorm_t>(io);
}

void cuda_add_rmsnorm_fwd(const op_io_t *io) {
    sum_norm_forward<rmsnorm_t>(io);
}

void cuda_add_rmsnorm_bwd(const op_io_t *io) {
    norm_backward<rmsnorm_t, true>(io);
}
