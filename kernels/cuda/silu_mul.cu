/* Bound by memory: three tensors forward, five backward, where both gradients share what is read. Arithmetic is in
 * float; sigma from expf, whose infinity at g < -88 gives the limit 0. */
#include "kernels/cuda/pieces.cuh"
extern "C" {
#include "kernels/ops/silu_mul.h"
}

static __device__ __forceinline__ float sigma(float x) {
    return 1.0f / (1.0f + expf(-x));
}

template <class T> static __global__ void silu_mul_kernel(int64_t n, bool packed, const T *g, const T *u, T *y) {
    int64_t at = piece_at();
    float a[EIGHT], b[EIGHT];
    if (at >= n) return;
    load_eight(g + at, n - at, packed, a);
    load_eight(u + at, n - at, packed, b);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) a[i] = a[i] * sigma(a[i]) * b[i];
    store_eight(y + at, n - at, packed, false, a);
}

/* dg, du may be NULL; u is read for dg alone. */
template <class T>
static __global__ void silu_mul_gradient(int64_t n, bool packed, const T *dy, const T *g, const T *u, bool acc_g, T *dg,
                                         bool acc_u, T *du) {
    int64_t at = piece_at();
    float d[EIGHT], a[EIGHT], b[EIGHT], s[EIGHT];
    if (at >= n) return;
    load_eight(dy + at, n - at, packed, d);
    load_eight(g + at, n - at, packed, a);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) s[i] = sigma(a[i]);
    if (dg) {
        load_eight(u + at, n - at, packed, b);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) b[i] = d[i] * b[i] * (s[i] * (1.0f + a[i] * (1.0f - s[i])));
        store_eight(dg + at, n - at, packed, acc_g, b);
    }
    if (du) {
#pragma unroll
        for (int i = 0; i < EIGHT; i++) b[i] = d[i] * (a[i] * s[i]);
        store_eight(du + at, n - at, packed, acc_u, b);
    }
}

void cuda_silu_mul_fwd(const op_io_t *io) {
    int64_t n = view_count(&io->out[0]);
    with_real(io->out[0].dtype, [&](auto one) {
        using T = decltype(one);
        const T *g = (const T *)io->in[SILU_MUL_G].data, *u = (const T *)io->in[SILU_MUL_U].data;
        T *y = (T *)io->out[0].data;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, silu_mul_kernel<T>, n, is_packed(g, u, y), g, u, y);
    });
}

void cuda_silu_mul_bwd(const op_io_t *io) {
    int64_t n = view_count(&io->gout);
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        const T *g = (const T *)io->in[SILU_MUL_G].data, *u = (const T *)io->in[SILU_MUL_U].data;
        const T *dy = (const T *)io->gout.data;
        T *dg = (T *)io->gin[SILU_MUL_G].data, *du = (T *)io->gin[SILU_MUL_U].data;
        if (!dg && !du) return;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, silu_mul_gradient<T>, n, is_packed(dy, g, u, dg, du),
               dy, g, u, io->acc[SILU_MUL_G], dg, io->acc[SILU_MUL_U], du);
    });
}
