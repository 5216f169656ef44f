/* Bound by memory: two tensors forward, three backward. Written so that NaN stays. */
#include "kernels/cuda/pieces.cuh"
extern "C" {
#include "kernels/ops/activation.h"
}

/* y may be x. */
template <class T> static __global__ void activation_kernel(int64_t n, bool packed, bool relu, const T *x, T *y) {
    int64_t at = piece_at();
    float v[EIGHT];
    if (at >= n) return;
    load_eight(x + at, n - at, packed, v);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) v[i] = !relu ? tanhf(v[i]) : v[i] < 0 ? 0.0f : v[i];
    store_eight(y + at, n - at, packed, false, v);
}

/* dx may be dy. */
template <class T>
static __global__ void activation_gradient(int64_t n, bool packed, bool relu, const T *dy, const T *y, bool acc,
                                           T *dx) {
    int64_t at = piece_at();
    float v[EIGHT], d[EIGHT];
    if (at >= n) return;
    load_eight(y + at, n - at, packed, v);
    load_eight(dy + at, n - at, packed, d);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) d[i] = !relu ? d[i] * ((1.0f - v[i]) * (1.0f + v[i])) : v[i] > 0 ? d[i] : 0.0f;
    store_eight(dx + at, n - at, packed, acc, d);
}

static bool is_relu(const op_io_t *io) {
    return ((const activation_attr_t *)io->attr)->kind == ACTIVATION_RELU;
}

void cuda_activation_fwd(const op_io_t *io) {
    int64_t n = view_count(&io->out[0]);
    with_real(io->out[0].dtype, [&](auto one) {
        using T = decltype(one);
        const T *x = (const T *)io->in[ACTIVATION_X].data;
        T *y = (T *)io->out[0].data;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, activation_kernel<T>, n, is_packed(x, y), is_relu(io),
               x, y);
    });
}

void cuda_activation_bwd(const op_io_t *io) {
    int64_t n = view_count(&io->gout);
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        const T *y = (const T *)io->out[0].data, *dy = (const T *)io->gout.data;
        T *dx = (T *)io->gin[ACTIVATION_X].data;
        if (!dx) return;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, activation_gradient<T>, n, is_packed(dy, y, dx),
               is_relu(io), dy, y, io->acc[ACTIVATION_X], dx);
    });
}
