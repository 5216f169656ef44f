/* Bound by memory: two tensors forward, three backward. The tanh form as sigmoid(2v) = (1 + tanh v) / 2, which keeps
 * its digits where tanh is near -1 (kernels/cpu/gelu.c). */
#include "kernels/cuda/pieces.cuh"
extern "C" {
#include "kernels/ops/gelu.h"
}

#define GELU_C    0.797884560802865356f /* sqrt(2/pi) */
#define GELU_CUBE 0.044715f

static __device__ __forceinline__ float half_tanh(float x) {
    return 1.0f / (1.0f + expf(-2.0f * GELU_C * (x + GELU_CUBE * (x * x * x))));
}

template <class T> static __global__ void gelu_kernel(int64_t n, bool packed, const T *x, T *y) {
    int64_t at = piece_at();
    float v[EIGHT];
    if (at >= n) return;
    load_eight(x + at, n - at, packed, v);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) v[i] *= half_tanh(v[i]);
    store_eight(y + at, n - at, packed, false, v);
}

/* With s = (1 + t)/2: (1 - t^2)/2 = 2 s (1 - s). */
static __device__ __forceinline__ float slope(float x) {
    float s = half_tanh(x);
    return s + x * (2.0f * s * (1.0f - s)) * (GELU_C * (1.0f + 3.0f * GELU_CUBE * (x * x)));
}

template <class T>
static __global__ void gelu_gradient(int64_t n, bool packed, const T *dy, const T *x, bool acc, T *dx) {
    int64_t at = piece_at();
    float v[EIGHT], d[EIGHT];
    if (at >= n) return;
    load_eight(x + at, n - at, packed, v);
    load_eight(dy + at, n - at, packed, d);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) d[i] *= slope(v[i]);
    store_eight(dx + at, n - at, packed, acc, d);
}

void cuda_gelu_fwd(const op_io_t *io) {
    int64_t n = view_count(&io->out[0]);
    with_real(io->out[0].dtype, [&](auto one) {
        using T = decltype(one);
        const T *x = (const T *)io->in[GELU_X].data;
        T *y = (T *)io->out[0].data;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, gelu_kernel<T>, n, is_packed(x, y), x, y);
    });
}

void cuda_gelu_bwd(const op_io_t *io) {
    int64_t n = view_count(&io->gout);
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        const T *x = (const T *)io->in[GELU_X].data, *dy = (const T *)io->gout.data;
        T *dx = (T *)io->gin[GELU_X].data;
        if (!dx) return;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, gelu_gradient<T>, n, is_packed(dy, x, dx), dy, x,
               io->acc[GELU_X], dx);
    });
}
