/* LSTM over the rows of x. What does not run through time is a product over all rows; one launch a row does the rest
 * (rows are tens: virtual tokens). All parameters have x's type (kernels/ops/lstm.c); products of two types and odd
 * sizes go through the own kernel of gemm.h. */
#include "kernels/cuda/bias_gradient.h"
#include "kernels/cuda/gemm.h"
extern "C" {
#include "kernels/ops/lstm.h"
}

namespace {

enum { WARPS = 8, THREADS = 32 * WARPS };

struct sizes_t {
    int64_t rows, inputs, cells, gates;
    bool reverse;
    dtype_t real;
};

sizes_t sizes_of(const op_io_t *io) {
    const int64_t cells = io->in[LSTM_W_HH].dim[1];
    return {io->in[LSTM_X].dim[0], io->in[LSTM_X].dim[1], cells, 4 * cells, ((const lstm_attr_t *)io->attr)->reverse,
            io->in[LSTM_X].dtype};
}

/* The row visited in step s; -1 before the first and behind the last. */
int64_t row_at(const sizes_t &z, int64_t s) {
    if (s < 0 || s >= z.rows) return -1;
    return z.reverse ? z.rows - 1 - s : s;
}

__device__ __forceinline__ float sigmoid(float v) {
    return 1.0f / (1.0f + expf(-v));
}

/* One row: a warp makes a cell. start: W_ih x + b_ih of the row. What goes on to the next row stays float. */
template <class T> struct forward_t {
    const float *start, *h_before, *c_before; /* h_before and c_before are NULL in the first step */
    const T *w, *bias;
    float *h_next, *c_next;
    T *gates, *h, *c; /* of the row */
    int64_t cells;
};

template <class T> __global__ void __launch_bounds__(THREADS) forward_row(forward_t<T> p) {
    const int64_t k = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
    if (k >= p.cells) return;
    float v[4];
    for (int g = 0; g < 4; g++) {
        const int64_t j = g * p.cells + k;
        float sum = 0;
        if (p.h_before)
            for (int64_t i = lane_id(); i < p.cells; i += 32) sum += to_float(p.w[j * p.cells + i]) * p.h_before[i];
        v[g] = p.start[j] + to_float(p.bias[j]) + warp_sum(sum);
        v[g] = g == 2 ? tanhf(v[g]) : sigmoid(v[g]); /* i, f, g, o */
    }
    const float cell = v[0] * v[2] + (p.c_before ? v[1] * p.c_before[k] : 0.0f);
    const float h = v[3] * tanhf(cell);
    if (lane_id() != 0) return;
    for (int g = 0; g < 4; g++) p.gates[g * p.cells + k] = from_float<T>(v[g]);
    p.c[k] = from_float<T>(p.c_next[k] = cell);
    p.h[k] = from_float<T>(p.h_next[k] = h);
}

/* One row backwards: a block makes 32 cells, each warp a part of W_hh^T's sum. dc holds the gradient that reaches the
 * cell from the step after; after is NULL in the last step, and dc not yet set. */
template <class T> struct backward_t {
    const T *dy, *w, *gates, *c, *c_before;
    const float *after;
    float *dgates, *dc;
    int64_t cells;
};

template <class T> __device__ __forceinline__ void cell_gradient(const backward_t<T> &p, int64_t k, float dh) {
    const int64_t n = p.cells;
    const float in = to_float(p.gates[k]), forget = to_float(p.gates[n + k]), fresh = to_float(p.gates[2 * n + k]),
                out = to_float(p.gates[3 * n + k]);
    const float squashed = tanhf(to_float(p.c[k]));
    const float dcell = (p.after ? p.dc[k] : 0.0f) + dh * out * ((1.0f - squashed) * (1.0f + squashed));
    p.dgates[k] = dcell * fresh * (in * (1.0f - in));
    p.dgates[n + k] = p.c_before ? dcell * to_float(p.c_before[k]) * (forget * (1.0f - forget)) : 0.0f;
    p.dgates[2 * n + k] = dcell * in * ((1.0f - fresh) * (1.0f + fresh));
    p.dgates[3 * n + k] = dh * squashed * (out * (1.0f - out));
    p.dc[k] = dcell * forget;
}

template <class T> __global__ void __launch_bounds__(THREADS) backward_row(backward_t<T> p) {
    SHARED(float, part, THREADS);
    const int warp = (int)threadIdx.x / 32;
    const int64_t k = (int64_t)blockIdx.x * 32 + lane_id();
    float sum = 0;
    if (p.after && k < p.cells)
        for (int64_t j = warp; j < 4 * p.cells; j += WARPS) sum += p.after[j] * to_float(p.w[j * p.cells + k]);
    part[threadIdx.x] = sum;
    block_sync();
    if (warp != 0 || k >= p.cells) return;
    float dh = to_float(p.dy[k]);
    for (int w = 0; w < WARPS; w++) dh += part[32 * w + lane_id()];
    cell_gradient(p, k, dh);
}

template <class T> void through_time_forward(const op_io_t *io, const sizes_t &z) {
    T *gates = (T *)io->out[LSTM_GATES].data, *h = (T *)io->out[LSTM_H].data, *c = (T *)io->out[LSTM_C].data;
    float *carry = (float *)io->scratch + z.rows * z.gates; /* h and c of even steps, then of odd ones */
    for (int64_t s = 0; s < z.rows; s++) {
        const int64_t t = row_at(z, s);
        float *next = carry + s % 2 * 2 * z.cells, *before = carry + (s + 1) % 2 * 2 * z.cells;
        forward_t<T> p;
        p.start = (const float *)io->scratch + t * z.gates;
        p.w = (const T *)io->in[LSTM_W_HH].data;
        p.bias = (const T *)io->in[LSTM_B_HH].data;
        p.h_before = s > 0 ? before : nullptr;
        p.c_before = s > 0 ? before + z.cells : nullptr;
        p.h_next = next;
        p.c_next = next + z.cells;
        p.gates = gates + t * z.gates;
        p.h = h + t * z.cells;
        p.c = c + t * z.cells;
        p.cells = z.cells;
        launch(cuda_stream(io), dim3((unsigned)cuda_parts(z.cells, WARPS)), dim3(THREADS), 0, forward_row<T>, p);
    }
}

template <class T> void through_time_backward(const op_io_t *io, const sizes_t &z, float *dgates) {
    const T *c = (const T *)io->out[LSTM_C].data;
    for (int64_t s = z.rows - 1; s >= 0; s--) {
        const int64_t t = row_at(z, s), before = row_at(z, s - 1), after = row_at(z, s + 1);
        backward_t<T> p;
        p.dy = (const T *)io->gout.data + t * z.cells;
        p.w = (const T *)io->in[LSTM_W_HH].data;
        p.gates = (const T *)io->out[LSTM_GATES].data + t * z.gates;
        p.c = c + t * z.cells;
        p.c_before = before < 0 ? nullptr : c + before * z.cells;
        p.after = after < 0 ? nullptr : dgates + after * z.gates;
        p.dgates = dgates + t * z.gates;
        p.dc = dgates + z.rows * z.gates;
        p.cells = z.cells;
        launch(cuda_stream(io), dim3((unsigned)cuda_parts(z.cells, 32)), dim3(THREADS), 0, backward_row<T>, p);
    }
}

/* dW [4H,k] (+)= dgates^T x over `rows` rows. */
void weight_gradient(const op_io_t *io, const sizes_t &z, const float *dgates, const void *x, int64_t rows, int64_t k,
                     int input) {
    gemm_t g;
    g.m = z.gates;
    g.n = k;
    g.k = rows;
    g.ta = true;
    g.a = dgates;
    g.b = x;
    g.c = io->gin[input].data;
    g.b_type = z.real;
    g.c_type = io->gin[input].dtype;
    g.acc = io->acc[input];
    gemm_run(io->device, &g);
}

void input_gradient(const op_io_t *io, const sizes_t &z, const float *dgates) {
    gemm_t g;
    g.m = z.rows;
    g.n = z.inputs;
    g.k = z.gates;
    g.a = dgates;
    g.b = io->in[LSTM_W_IH].data;
    g.c = io->gin[LSTM_X].data;
    g.b_type = io->in[LSTM_W_IH].dtype;
    g.c_type = io->gin[LSTM_X].dtype;
    g.acc = io->acc[LSTM_X];
    gemm_run(io->device, &g);
}

/* Forward: what goes into the gates from the input [T,4H], then h and c of two steps. Backward: the gradients of the
 * gates' arguments [T,4H], then of the cells [H]. */
size_t time_floats(const sizes_t &z) {
    return (size_t)(z.rows * z.gates + 4 * z.cells);
}

} // namespace

/* Behind what runs through time, sums of columns. */
size_t cuda_lstm_scratch(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    return sizeof(float) * time_floats(z) + bias_gradient_scratch(z.rows, z.gates);
}

void cuda_lstm_fwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    gemm_t g;
    g.m = z.rows;
    g.n = z.gates;
    g.k = z.inputs;
    g.tb = true;
    g.a = io->in[LSTM_X].data;
    g.b = io->in[LSTM_W_IH].data;
    g.c = io->scratch;
    g.a_type = g.b_type = z.real;
    g.bias = io->in[LSTM_B_IH].data;
    g.bias_type = io->in[LSTM_B_IH].dtype;
    gemm_run(io->device, &g);
    with_real(z.real, [&](auto one) { through_time_forward<decltype(one)>(io, z); });
}

void cuda_lstm_bwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    float *dgates = (float *)io->scratch;
    with_real(z.real, [&](auto one) { through_time_backward<decltype(one)>(io, z, dgates); });
    if (io->gin[LSTM_X].data) input_gradient(io, z, dgates);
    if (io->gin[LSTM_W_IH].data) weight_gradient(io, z, dgates, io->in[LSTM_X].data, z.rows, z.inputs, LSTM_W_IH);
    if (io->gin[LSTM_W_HH].data) { /* row t with the h of the row visited before it: one row on, or one row back */
        const int64_t pairs = z.rows > 0 ? z.rows - 1 : 0, first = z.reverse ? z.cells : 0;
        const char *h = (const char *)io->out[LSTM_H].data + first * (int64_t)dtype_size(z.real);
        weight_gradient(io, z, dgates + (z.reverse ? 0 : z.gates), h, pairs, z.cells, LSTM_W_HH);
    }
    for (int b = LSTM_B_IH; b <= LSTM_B_HH; b++)
        if (io->gin[b].data)
            bias_gradient(cuda_stream(io), DT_F32, dgates, z.rows, z.gates, dgates + time_floats(z), io->acc[b],
                          (float *)io->gin[b].data);
}
