/* Bound by memory: three tensors forward; backward two for each gradient, three where it is added to. */
#include "kernels/cuda/pieces.cuh"
extern "C" {
#include "kernels/ops/add.h"
}

/* y may be a. */
template <class T> static __global__ void add_kernel(int64_t n, bool packed, const T *a, const T *b, T *y) {
    int64_t at = piece_at();
    float v[EIGHT], w[EIGHT];
    if (at >= n) return;
    load_eight(a + at, n - at, packed, v);
    load_eight(b + at, n - at, packed, w);
#pragma unroll
    for (int i = 0; i < EIGHT; i++) v[i] += w[i];
    store_eight(y + at, n - at, packed, false, v);
}

template <class T> static __global__ void add_gradient(int64_t n, bool packed, const T *dy, bool acc, T *dx) {
    int64_t at = piece_at();
    float v[EIGHT];
    if (at >= n) return;
    load_eight(dy + at, n - at, packed, v);
    store_eight(dx + at, n - at, packed, acc, v);
}

void cuda_add_fwd(const op_io_t *io) {
    int64_t n = view_count(&io->out[0]);
    with_real(io->out[0].dtype, [&](auto one) {
        using T = decltype(one);
        const T *a = (const T *)io->in[ADD_A].data, *b = (const T *)io->in[ADD_B].data;
        T *y = (T *)io->out[0].data;
        launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, add_kernel<T>, n, is_packed(a, b, y), a, b, y);
    });
}

void cuda_add_bwd(const op_io_t *io) {
    int64_t n = view_count(&io->gout);
    with_real(io->gout.dtype, [&](auto one) {
        using T = decltype(one);
        const T *dy = (const T *)io->gout.data;
        for (int k = ADD_A; k <= ADD_B; k++) {
            T *dx = (T *)io->gin[k].data;
            if (!dx || dx == dy) continue;
            launch(cuda_stream(io), piece_grid(n), PIECE_THREADS, 0, add_gradient<T>, n, is_packed(dy, dx), dy,
                   io->acc[k], dx);
        }
    });
}
