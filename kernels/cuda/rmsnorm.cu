/* Which rows threads have and what the floor is: kernels/cuda/norm.cuh. */
#include "kernels/cuda/norm.cuh"
extern "C" {
#include "kernels/ops/rmsnorm.h"
}

enum { FORWARD = 4, BACKWARD = 2 }; /* pieces held */

template <bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    rmsnorm_kernel(int warps, int64_t rows, int64_t d, float eps, const T *x, const W *w, T *y, float *rstd) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    x += p.row * d;
    y += p.row * d;
    float held[FORWARD][EIGHT], sum = 0;
    auto square = [&](const float(&v)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum += v[i] * v[i];
    };
    norm_pieces<FORWARD>(
        p,
        [&](int64_t at, int k) {
            norm_load<PACKED>(p, x, at, held[k]);
            square(held[k]);
        },
        [&](int64_t at) {
            float v[EIGHT];
            norm_load<PACKED>(p, x, at, v);
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

template <bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    rmsnorm_gradient(int warps, int64_t rows, int64_t d, const T *dy, const T *x, const W *w, const float *rstd,
                     bool acc, T *dx) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    x += p.row * d;
    dy += p.row * d;
    dx += p.row * d;
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
        norm_store<PACKED>(p, dx, at, acc, g);
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

size_t cuda_rmsnorm_scratch(const op_io_t *io) {
    return column_sums_scratch(io->in[RMSNORM_X].dim[0], io->in[RMSNORM_X].dim[1], 1);
}

void cuda_rmsnorm_fwd(const op_io_t *io) {
    int64_t rows = io->out[0].dim[0], d = io->out[0].dim[1];
    norm_grid_t g = norm_grid(rows, d, FORWARD);
    float eps = (float)((const rmsnorm_attr_t *)io->attr)->eps;
    with_real(io->out[0].dtype, [&](auto one) {
        with_real(io->in[RMSNORM_W].dtype, [&](auto other) {
            using T = decltype(one);
            using W = decltype(other);
            const T *x = (const T *)io->in[RMSNORM_X].data;
            const W *w = (const W *)io->in[RMSNORM_W].data;
            T *y = (T *)io->out[RMSNORM_Y].data;
            bool packed = is_packed(x, w, y) && d % EIGHT == 0;
            launch(cuda_stream(io), g.grid, g.threads, 0,
                   packed ? rmsnorm_kernel<true, T, W> : rmsnorm_kernel<false, T, W>, g.warps, rows, d, eps, x, w, y,
                   (float *)io->out[RMSNORM_RSTD].data);
        });
    });
}

template <class T> static void weight_gradient(const op_io_t *io) {
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    const T *dy = (const T *)io->gout.data, *x = (const T *)io->in[RMSNORM_X].data;
    float *const g[] = {(float *)io->gin[RMSNORM_W].data};
    const bool acc[] = {io->acc[RMSNORM_W]};
    rmsnorm_terms_t<T> terms = {dy, x, (const float *)io->out[RMSNORM_RSTD].data, d,
                                is_packed(dy, x) && d % EIGHT == 0};
    if (g[0]) column_sums<1>(cuda_stream(io), rows, d, terms, io->scratch, g, acc);
}

void cuda_rmsnorm_bwd(const op_io_t *io) {
    int64_t rows = io->gout.dim[0], d = io->gout.dim[1];
    norm_grid_t g = norm_grid(rows, d, BACKWARD);
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        weight_gradient<T>(io);
        if (!io->gin[RMSNORM_X].data) return;
        with_real(io->in[RMSNORM_W].dtype, [&](auto other) {
            using W = decltype(other);
            const T *dy = (const T *)io->gout.data, *x = (const T *)io->in[RMSNORM_X].data;
            const W *w = (const W *)io->in[RMSNORM_W].data;
            T *dx = (T *)io->gin[RMSNORM_X].data;
            bool packed = is_packed(dy, x, w, dx) && d % EIGHT == 0;
            launch(cuda_stream(io), g.grid, g.threads, 0,
                   packed ? rmsnorm_gradient<true, T, W> : rmsnorm_gradient<false, T, W>, g.warps, rows, d, dy, x, w,
                   (const float *)io->out[RMSNORM_RSTD].data, io->acc[RMSNORM_X], dx);
        });
    });
}
