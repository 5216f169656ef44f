/* layernorm and add_layernorm. Which rows threads have, launches and what the floor is: kernels/cuda/norm.cuh. The
 * variance is a second pass over what is held, as on the CPU: no difference of squares. */
#include "kernels/cuda/norm.cuh"
extern "C" {
#include "kernels/ops/layernorm.h"
}

template <bool ADD, bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    layernorm_kernel(int warps, int64_t rows, int64_t d, float eps, norm_from_t<T> from, const W *w, const W *b, T *y,
                     float *stat) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    const T *x = from.x + p.row * d;
    y += p.row * d;
    float held[FORWARD][EIGHT], sum = 0;
    auto add = [&](int64_t at, float(&v)[EIGHT]) {
        norm_read<ADD, PACKED>(p, from, at, v);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum += v[i];
    };
    norm_pieces<FORWARD>(
        p, [&](int64_t at, int k) { add(at, held[k]); },
        [&](int64_t at) {
            float v[EIGHT];
            add(at, v);
        });
    float mean = norm_sum(warps, sum, part) / (float)d;
    sum = 0;
    auto square = [&](int64_t at, const float(&v)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++)
            if (PACKED || at + i < d) sum += (v[i] - mean) * (v[i] - mean);
    };
    norm_pieces<FORWARD>(
        p, [&](int64_t at, int k) { square(at, held[k]); },
        [&](int64_t at) {
            float v[EIGHT];
            norm_load<PACKED>(p, x, at, v);
            square(at, v);
        });
    float r = 1.0f / sqrtf(norm_sum(warps, sum, part) / (float)d + eps);
    auto scale = [&](int64_t at, float(&v)[EIGHT]) {
        float weight[EIGHT], bias[EIGHT];
        norm_load<PACKED>(p, w, at, weight);
        norm_load<PACKED>(p, b, at, bias);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[i] = (v[i] - mean) * r * weight[i] + bias[i];
        norm_store<PACKED>(p, y, at, false, v);
    };
    norm_pieces<FORWARD>(
        p, [&](int64_t at, int k) { scale(at, held[k]); },
        [&](int64_t at) {
            float v[EIGHT];
            norm_load<PACKED>(p, x, at, v);
            scale(at, v);
        });
    if (p.first == 0) {
        stat[2 * p.row] = mean;
        stat[2 * p.row + 1] = r;
    }
}

template <bool ADD, bool PACKED, class T, class W>
static __global__ void __launch_bounds__(NORM_THREADS, 1)
    layernorm_gradient(int warps, int64_t rows, int64_t d, const T *dy, const T *x, const W *w, const float *stat,
                       norm_into_t<T> into) {
    SHARED(float, part, 32);
    norm_part_t p = norm_part(warps, d);
    if (p.row >= rows) return;
    x += p.row * d;
    dy += p.row * d;
    float hats[BACKWARD][EIGHT], gs[BACKWARD][EIGHT], g_sum = 0, gx_sum = 0;
    float mean = stat[2 * p.row], r = stat[2 * p.row + 1];
    auto load = [&](int64_t at, float(&hat)[EIGHT], float(&g)[EIGHT]) { /* xhat and g = dy w */
                                                                        float weight[EIGHT];
                                                                        norm_load<PACKED>(p, x, at, hat);
                                                                        norm_load<PACKED>(p, dy, at, g);
                                                                        norm_load<PACKED>(p, w, at, weight);
#pragma unroll
                                                                        for (int i = 0; i < EIGHT; i++) {
                                                                            hat[i] = (hat[i] - mean) * r;
                                                                            g[i] *= weight[i];
                                                                        }
    };
    auto sums = [&](const float(&hat)[EIGHT], const float(&g)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) {
            g_sum += g[i];
            gx_sum += g[i] * hat[i];
        }
    };
    norm_pieces<BACKWARD>(
        p,
        [&](int64_t at, int k) {
            load(at, hats[k], gs[k]);
            sums(hats[k], gs[k]);
        },
        [&](int64_t at) {
            float hat[EIGHT], g[EIGHT];
            load(at, hat, g);
            sums(hat, g);
        });
    float g_mean = norm_sum(warps, g_sum, part) / (float)d, gx_mean = norm_sum(warps, gx_sum, part) / (float)d;
    auto store = [&](int64_t at, const float(&hat)[EIGHT], float(&g)[EIGHT]) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) g[i] = r * (g[i] - g_mean - hat[i] * gx_mean);
        norm_write<ADD, PACKED>(p, into, at, g);
    };
    norm_pieces<BACKWARD>(
        p, [&](int64_t at, int k) { store(at, hats[k], gs[k]); },
        [&](int64_t at) {
            float hat[EIGHT], g[EIGHT];
            load(at, hat, g);
            store(at, hat, g);
        });
}

/* The terms of dw, which may be absent, and db. */
template <class T> struct layernorm_terms_t {
    const T *dy, *x; /* x NULL: dw is not wanted */
    const float *stat;
    int64_t d;
    bool packed;
    __device__ __forceinline__ void operator()(int64_t n, int64_t at, int64_t count, float (&v)[2][EIGHT]) const {
        float a[EIGHT] = {0}, mean = 0, r = 0;
        load_eight(dy + n * d + at, count, packed, v[1]);
        if (x) {
            load_eight(x + n * d + at, count, packed, a);
            mean = stat[2 * n];
            r = stat[2 * n + 1];
        }
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[0][i] = v[1][i] * ((a[i] - mean) * r);
    }
};

namespace {
struct layernorm_t {
    using attr_t = layernorm_attr_t;
    template <class T> using terms_t = layernorm_terms_t<T>;
    enum { SUMS = 2 };
    NORM_KERNELS(layernorm_kernel, layernorm_gradient)
};
} // namespace

size_t cuda_layernorm_scratch(const op_io_t *io) {
    return norm_scratch<layernorm_t>(io);
}

void cuda_layernorm_fwd(const op_io_t *io) {
    norm_forward<layernorm_t, false>(io);
}

void cuda_layernorm_bwd(const op_io_t *io) {
    norm_backward<layernorm_t, false>(io);
}

size_t cuda_add_layernorm_scratch(const op_io_t *io) {
    return norm_scratch<layernorm_t>(io);
}

void cuda_add_layernorm_fwd(const op_io_t *io) {
    sum_norm_forward<layernorm_t>(io);
}

void cuda_add_layernorm_bwd(const op_io_t *io) {
    norm_backward<layernorm_t, true>(io);
}
