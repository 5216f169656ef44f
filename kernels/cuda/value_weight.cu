/* Bound by memory: h once forward, h and its gradient once each backward. A warp takes a row. Inner products are in
 * float, what follows from them per row in double, as on the CPU; the loss is summed over rows in one fixed order by
 * one block. */
#include "kernels/cuda/column_sums.cuh"
extern "C" {
#include "kernels/ops/value_weight.h"
}

enum { VALUE_WARPS = 4 };

/* What both passes read per row. */
struct value_rows_t {
    const float *reward, *weight;
    double alpha, beta;
};

static value_rows_t rows_of(const op_io_t *io) {
    const value_weight_attr_t *at = (const value_weight_attr_t *)io->attr;
    return {(const float *)io->in[VALUE_WEIGHT_REWARD].data, (const float *)io->in[VALUE_WEIGHT_WEIGHTS].data,
            at->alpha, at->beta};
}

/* square[m] = weight (reward - V)^2, with V as it is kept */
template <class T, class W>
static __global__ void __launch_bounds__(32 * VALUE_WARPS)
    value_kernel(int64_t rows, int64_t d, bool packed, value_rows_t of, const T *h, const W *v, float *weighted,
                 float *value, double *square) {
    int64_t m = (int64_t)blockIdx.x * VALUE_WARPS + threadIdx.x / 32;
    float sum = 0;
    if (m >= rows) return;
    for (int64_t at = (int64_t)lane_id() * EIGHT; at < d; at += 32 * EIGHT) {
        float a[EIGHT], b[EIGHT];
        load_eight(h + m * d + at, d - at, packed, a);
        load_eight(v + at, d - at, packed, b);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) sum += a[i] * b[i];
    }
    sum = warp_sum(sum);
    if (lane_id()) return;
    float kept = (float)(-1 / (1 + exp(-(double)sum)));
    double advantage = (double)of.reward[m] - (double)kept, omega = exp(advantage / of.beta);
    if (omega > VALUE_WEIGHT_MOST) omega = VALUE_WEIGHT_MOST;
    weighted[m] = (float)(of.alpha * omega * (double)of.weight[m]);
    value[m] = kept;
    square[m] = (double)of.weight[m] * advantage * advantage;
}

static __global__ void __launch_bounds__(PIECE_THREADS)
    value_loss(int64_t rows, double factor, const double *square, double *loss) {
    SHARED(double, part, 32);
    double sum = 0;
    for (int64_t m = threadIdx.x; m < rows; m += PIECE_THREADS) sum += square[m];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) *loss = factor * sum;
}

/* d loss / d (v . h[m]) */
static __device__ __forceinline__ double score_gradient(const value_rows_t &of, const double *dloss, const float *value,
                                                        int64_t m) {
    double kept = (double)value[m], advantage = (double)of.reward[m] - kept;
    return -2 * *dloss * (1 - of.alpha) * (double)of.weight[m] * advantage * kept * (1 + kept);
}

template <class T, class W>
static __global__ void __launch_bounds__(32 * VALUE_WARPS)
    value_gradient(int64_t rows, int64_t d, bool packed, value_rows_t of, const double *dloss, const float *value,
                   const W *v, bool acc, T *dh) {
    int64_t m = (int64_t)blockIdx.x * VALUE_WARPS + threadIdx.x / 32;
    if (m >= rows) return;
    float du = (float)score_gradient(of, dloss, value, m);
    for (int64_t at = (int64_t)lane_id() * EIGHT; at < d; at += 32 * EIGHT) {
        float a[EIGHT];
        load_eight(v + at, d - at, packed, a);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) a[i] *= du;
        store_eight(dh + m * d + at, d - at, packed, acc, a);
    }
}

/* The terms of dv. */
template <class T> struct value_terms_t {
    value_rows_t of;
    const double *dloss;
    const float *value;
    const T *h;
    int64_t d;
    bool packed;
    __device__ __forceinline__ void operator()(int64_t m, int64_t at, int64_t count, float (&v)[1][EIGHT]) const {
        float du = (float)score_gradient(of, dloss, value, m);
        load_eight(h + m * d + at, count, packed, v[0]);
#pragma unroll
        for (int i = 0; i < EIGHT; i++) v[0][i] *= du;
    }
};

/* A double for each row forward, partial sums backward. */
size_t cuda_value_weight_scratch(const op_io_t *io) {
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0];
    size_t forward = (size_t)rows * sizeof(double);
    size_t backward = column_sums_scratch(rows, io->in[VALUE_WEIGHT_H].dim[1], 1);
    return forward > backward ? forward : backward;
}

void cuda_value_weight_fwd(const op_io_t *io) {
    const view_t *h = &io->in[VALUE_WEIGHT_H], *v = &io->in[VALUE_WEIGHT_V];
    int64_t rows = h->dim[0], d = h->dim[1];
    bool packed = is_packed(h->data, v->data) && d % EIGHT == 0;
    value_rows_t of = rows_of(io);
    double *square = (double *)io->scratch;
    with_real(h->dtype, [&](auto one) {
        with_real(v->dtype, [&](auto other) {
            using T = decltype(one);
            using W = decltype(other);
            launch(cuda_stream(io), dim3((unsigned)cuda_parts(rows, VALUE_WARPS)), 32 * VALUE_WARPS, 0,
                   value_kernel<T, W>, rows, d, packed, of, (const T *)h->data, (const W *)v->data,
                   (float *)io->out[VALUE_WEIGHT_WEIGHTED].data, (float *)io->out[VALUE_WEIGHT_VALUE].data, square);
        });
    });
    launch(cuda_stream(io), 1, PIECE_THREADS, 0, value_loss, rows, 1 - of.alpha, square,
           (double *)io->out[VALUE_WEIGHT_LOSS].data);
}

template <class T> static void head_gradient(const op_io_t *io) {
    const view_t *h = &io->in[VALUE_WEIGHT_H];
    float *const g[] = {(float *)io->gin[VALUE_WEIGHT_V].data};
    const bool acc[] = {io->acc[VALUE_WEIGHT_V]};
    value_terms_t<T> terms = {rows_of(io),
                              (const double *)io->gout.data,
                              (const float *)io->out[VALUE_WEIGHT_VALUE].data,
                              (const T *)h->data,
                              h->dim[1],
                              is_packed(h->data) && h->dim[1] % EIGHT == 0};
    if (g[0]) column_sums<1>(cuda_stream(io), h->dim[0], h->dim[1], terms, io->scratch, g, acc);
}

void cuda_value_weight_bwd(const op_io_t *io) {
    const view_t *v = &io->in[VALUE_WEIGHT_V], *dh = &io->gin[VALUE_WEIGHT_H];
    int64_t rows = io->in[VALUE_WEIGHT_H].dim[0], d = io->in[VALUE_WEIGHT_H].dim[1];
    with_real(io->in[VALUE_WEIGHT_H].dtype, [&](auto one) {
        using T = decltype(one);
        head_gradient<T>(io);
        if (!dh->data) return;
        with_real(v->dtype, [&](auto other) {
            using W = decltype(other);
            launch(cuda_stream(io), dim3((unsigned)cuda_parts(rows, VALUE_WARPS)), 32 * VALUE_WARPS, 0,
                   value_gradient<T, W>, rows, d, is_packed(v->data, dh->data) && d % EIGHT == 0, rows_of(io),
                   (const double *)io->gout.data, (const float *)io->out[VALUE_WEIGHT_VALUE].data, (const W *)v->data,
                   io->acc[VALUE_WEIGHT_H], (T *)dh->data);
        });
    });
}
