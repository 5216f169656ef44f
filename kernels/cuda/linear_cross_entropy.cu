/* The output head and its loss, in chunks of rows (mathematics: kernels/ops/linear_cross_entropy.h).
 *
 * A chunk: its logits, in float also for bfloat16 (in bfloat16 a logit of 20 is off by 0.04, and so would nll be); one
 * pass over a row for the maximum and the sum over the other tokens; one that turns logits into their gradient in
 * place, in the type of h; the product with W. dW makes the logits again. Floor: the two products of a pass, 4 V d
 * flops a row forward; the passes in between read and write 16 V bytes a row. */
#include "kernels/cuda/gemm.h"
extern "C" {
#include "kernels/ops/linear_cross_entropy.h"
}

enum { THREADS = 512, LANES = 8, TILE = THREADS * LANES, ROW_THREADS = 128, SUM_THREADS = 1024 };

/* Rows of a chunk: as many as a product needs to fill a device, few of a small vocabulary, within a budget of logits.
 */
const int64_t LEAST_ROWS = 128, MOST_LOGITS = 128 * 1024 * 1024;

static int64_t round_up(int64_t n, int64_t to) {
    return (n + to - 1) / to * to;
}

static int64_t chunk_rows(int64_t vocab) {
    int64_t want = round_up(vocab / 8, LEAST_ROWS),
            most = MOST_LOGITS / max(vocab, (int64_t)1) / LEAST_ROWS * LEAST_ROWS;
    if (want > most) want = most;
    return want > LEAST_ROWS ? want : LEAST_ROWS;
}

/* The gradient of a row's logits: factor * exp(z[v] - log_sum), and `at` for the target. */
struct alignas(16) row_t {
    float log_sum, factor, at;
};

/* The parts of scratch, in bytes from its start. */
struct layout_t {
    int64_t rows, chunk, d, vocab, stride; /* stride: floats from one row of logits to the next */
    bool copies;                           /* W has not the type of h, so there is a copy of it that has */
    size_t loss, row, w, z, end;
};

static layout_t layout_of(const op_io_t *io) {
    layout_t l;
    l.rows = io->in[LCE_H].dim[0];
    l.d = io->in[LCE_H].dim[1];
    l.vocab = io->in[LCE_W].dim[0];
    l.chunk = min(chunk_rows(l.vocab), l.rows);
    l.stride = round_up(l.vocab, LANES);
    l.copies = io->in[LCE_W].dtype != io->in[LCE_H].dtype;
    l.loss = 0;
    l.row = (size_t)round_up(l.rows * (int64_t)sizeof(double), 256);
    l.w = l.row + (size_t)round_up(l.chunk * (int64_t)sizeof(row_t), 256);
    l.z = l.w + (size_t)(l.copies ? round_up(l.vocab * l.d * (int64_t)sizeof(bf16_t), 256) : 0);
    l.end = l.z + (size_t)(l.chunk * l.stride) * sizeof(float);
    return l;
}

static char *scratch_at(const op_io_t *io, size_t at) {
    return (char *)io->scratch + at;
}

extern "C" size_t cuda_linear_cross_entropy_scratch(const op_io_t *io) {
    return layout_of(io).end;
}

/* ---- kernels ------------------------------------------------------------------------------------------------- */

/* The maximum and the sum of exp(z - max) over some tokens, seen one by one. */
struct online_t {
    float max, sum;
};

template <int n> __device__ __forceinline__ void take(online_t &o, const float (&z)[n]) {
    float max = o.max;
    for (int k = 0; k < n; k++) max = fmaxf(max, z[k]);
    if (max > o.max) {
        o.sum *= expf(o.max - max);
        o.max = max;
    }
    for (int k = 0; k < n; k++) o.sum += z[k] == -INFINITY ? 0.0f : expf(z[k] - o.max);
}

__device__ __forceinline__ float block_max(float v, shared_t<float> part) {
    v = warp_max(v);
    if (lane_id() == 0) part[threadIdx.x / 32] = v;
    block_sync();
    for (unsigned w = 0; w < blockDim.x / 32; w++) v = fmaxf(v, part[w]);
    block_sync();
    return v;
}

/* log(1 + exp(x)) */
__device__ __forceinline__ double softplus(double x) {
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* A row that would be infinite or none passes on what it is, except by comparisons; so NaN survives. */
__device__ __forceinline__ double loss_of(double nll, double weight) {
    if (!(weight < 0)) return weight * nll;
    double rest = lce_rest((double)(float)nll); /* rounded as it is kept: backward decides alike on the floor */
    return weight * log(rest < LCE_FLOOR ? LCE_FLOOR : rest);
}

/* One row a block: nll and the loss. */
__global__ __launch_bounds__(THREADS) void nll_kernel(const float *logits, int64_t stride, int64_t vocab,
                                                      const int32_t *target, const float *weight, float *nll,
                                                      double *loss) {
    SHARED(float, part, 32);
    SHARED(double, sums, 32);
    const int64_t row = blockIdx.x;
    const float *z = logits + row * stride;
    const int64_t t = target[row];
    online_t o = {-INFINITY, 0.0f};
    int64_t whole = vocab / LANES * LANES;
    for (int64_t i = (int64_t)threadIdx.x * LANES; i < whole; i += TILE) {
        float v[LANES];
        pack_t<float> a = load_pack(z + i), b = load_pack(z + i + LANES / 2);
        for (int k = 0; k < LANES / 2; k++) v[k] = a.v[k], v[LANES / 2 + k] = b.v[k];
        for (int k = 0; k < LANES; k++)
            if (i + k == t) v[k] = -INFINITY;
        take(o, v);
    }
    if (whole + threadIdx.x < vocab && whole + threadIdx.x != t) {
        const float v[1] = {z[whole + threadIdx.x]};
        take(o, v);
    }
    float max = block_max(o.max, part);
    double sum = block_sum(o.sum > 0 ? (double)o.sum * exp((double)o.max - (double)max) : (double)o.sum, sums);
    if (threadIdx.x) return;
    double n = softplus(log(sum) + (double)max - (double)z[t]);
    nll[row] = (float)n;
    loss[row] = loss_of(n, (double)weight[row]);
}

/* One row a thread: what its gradient is made of, times *dloss (NULL: 1). */
__global__ void row_kernel(const float *logits, int64_t stride, int64_t rows, const int32_t *target,
                           const float *weight, const float *nll, const double *dloss, row_t *out) {
    int64_t row = (int64_t)blockIdx.x * ROW_THREADS + threadIdx.x;
    if (row >= rows) return;
    double at_target = (double)logits[row * stride + target[row]], n = (double)nll[row], w = (double)weight[row];
    double rest = lce_rest(n), by = dloss ? *dloss : 1.0;
    row_t r;
    if (w < 0) {
        double factor = rest < LCE_FLOOR ? 0.0 : by * w * exp(-n);
        r.log_sum = rest < LCE_FLOOR ? (float)(n + at_target) : (float)(n + at_target + log(rest));
        r.factor = (float)factor;
        r.at = -r.factor;
    } else {
        r.log_sum = (float)(n + at_target);
        r.factor = (float)(by * w);
        r.at = (float)(-by * w * rest);
    }
    out[row] = r;
}

__device__ __forceinline__ float logit_gradient(const row_t &r, float z, bool at_target) {
    return at_target ? r.at : r.factor * expf(z - r.log_sum);
}

/* One row a block, in place: numbers of type T from the row's start, 2 bytes each or 4. A tile is read by all before
 * one of its numbers is written, and what is written lies where a tile was read before. */
template <class T>
__global__ __launch_bounds__(THREADS) void gradient_kernel(float *logits, int64_t stride, int64_t vocab,
                                                           const int32_t *target, const row_t *rows) {
    float *z = logits + (int64_t)blockIdx.x * stride;
    T *dz = (T *)z;
    const int64_t t = target[blockIdx.x];
    const row_t r = rows[blockIdx.x];
    for (int64_t tile = 0; tile < vocab; tile += TILE) {
        int64_t i = tile + (int64_t)threadIdx.x * LANES;
        float v[LANES];
        if (i < vocab) { /* rows are padded to whole lanes */
            pack_t<float> a = load_pack(z + i), b = load_pack(z + i + LANES / 2);
            for (int k = 0; k < LANES / 2; k++) v[k] = a.v[k], v[LANES / 2 + k] = b.v[k];
        }
        if (sizeof(T) != sizeof(float)) block_sync();
        if (i >= vocab) continue;
        for (int p = 0; p < LANES; p += pack_t<T>::COUNT) {
            pack_t<T> out;
            for (int k = 0; k < pack_t<T>::COUNT; k++)
                out.v[k] = from_float<T>(logit_gradient(r, v[p + k], i + p + k == t));
            store_pack(dz + i + p, out);
        }
    }
}

__global__ __launch_bounds__(SUM_THREADS) void sum_kernel(const double *loss, int64_t rows, double *out) {
    SHARED(double, part, 32);
    double sum = 0;
    for (int64_t i = threadIdx.x; i < rows; i += SUM_THREADS) sum += loss[i];
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) *out = sum;
}

template <class T> __global__ void scale_kernel(const T *dh, const double *dloss, T *gh, int64_t n, bool acc) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) put(&gh[i], (float)*dloss * to_float(dh[i]), acc);
}

/* ---- the pass over chunks --------------------------------------------------------------------------------------- */

struct chunk_t {
    int64_t first, rows;
    const void *h;
    const int32_t *target;
    const float *weight;
    float *nll;
};

static chunk_t chunk_at(const op_io_t *io, const layout_t &l, int64_t first) {
    chunk_t c;
    c.first = first;
    c.rows = min(l.chunk, l.rows - first);
    c.h = (const char *)io->in[LCE_H].data + (size_t)(first * l.d) * dtype_size(io->in[LCE_H].dtype);
    c.target = (const int32_t *)io->in[LCE_TARGETS].data + first;
    c.weight = (const float *)io->in[LCE_WEIGHTS].data + first;
    c.nll = (float *)io->out[LCE_NLL].data + first;
    return c;
}

/* W in the type of h. */
static const void *weights(const op_io_t *io, const layout_t &l) {
    const view_t *w = &io->in[LCE_W];
    if (!l.copies) return w->data;
    bf16_t *copy = (bf16_t *)scratch_at(io, l.w);
    gemm_to_bf16(cuda_stream(io), (const float *)w->data, l.vocab * l.d, copy);
    return copy;
}

static void run_logits(const op_io_t *io, const layout_t &l, const chunk_t &c, const void *w) {
    gemm_t g;
    g.m = c.rows, g.n = l.vocab, g.k = l.d;
    g.a = c.h, g.b = w, g.tb = true, g.c = scratch_at(io, l.z);
    g.ldc = l.stride;
    g.a_type = g.b_type = io->in[LCE_H].dtype;
    gemm_run(io->device, &g);
}

/* Logits become their gradient. */
static void run_gradient(const op_io_t *io, const layout_t &l, const chunk_t &c, const double *dloss) {
    float *z = (float *)scratch_at(io, l.z);
    row_t *row = (row_t *)scratch_at(io, l.row);
    launch(cuda_stream(io), dim3((unsigned)cuda_parts(c.rows, ROW_THREADS)), dim3(ROW_THREADS), 0, row_kernel,
           (const float *)z, l.stride, c.rows, c.target, c.weight, (const float *)c.nll, dloss, row);
    with_real(io->in[LCE_H].dtype, [&](auto one) {
        using T = decltype(one);
        launch(cuda_stream(io), dim3((unsigned)c.rows), dim3(THREADS), 0, gradient_kernel<T>, z, l.stride, l.vocab,
               c.target, (const row_t *)row);
    });
}

/* Elements from one row of the logits' gradient to the next. */
static int64_t gradient_stride(const op_io_t *io, const layout_t &l) {
    return l.stride * (int64_t)(sizeof(float) / dtype_size(io->in[LCE_H].dtype));
}

static void run_dh(const op_io_t *io, const layout_t &l, const chunk_t &c, const void *w) {
    dtype_t type = io->in[LCE_H].dtype;
    gemm_t g;
    g.m = c.rows, g.n = l.d, g.k = l.vocab;
    g.a = scratch_at(io, l.z), g.lda = gradient_stride(io, l), g.b = w;
    g.c = (char *)io->out[LCE_DH].data + (size_t)(c.first * l.d) * dtype_size(type);
    g.a_type = g.b_type = g.c_type = type;
    gemm_run(io->device, &g);
}

extern "C" void cuda_linear_cross_entropy_fwd(const op_io_t *io) {
    const layout_t l = layout_of(io);
    const void *w = l.rows ? weights(io, l) : NULL;
    double *loss = (double *)scratch_at(io, l.loss);
    for (int64_t first = 0; first < l.rows; first += l.chunk) {
        chunk_t c = chunk_at(io, l, first);
        run_logits(io, l, c, w);
        launch(cuda_stream(io), dim3((unsigned)c.rows), dim3(THREADS), 0, nll_kernel,
               (const float *)scratch_at(io, l.z), l.stride, l.vocab, c.target, c.weight, c.nll, loss + first);
        if (!io->want_grad) continue;
        run_gradient(io, l, c, NULL);
        run_dh(io, l, c, w);
    }
    launch(cuda_stream(io), dim3(1), dim3(SUM_THREADS), 0, sum_kernel, (const double *)loss, l.rows,
           (double *)io->out[LCE_LOSS].data);
}

/* Adds one chunk's part of rows `first` ... of dW, those of `input`. */
static void run_dw(const op_io_t *io, const layout_t &l, const chunk_t &c, int input, int64_t first) {
    const view_t *to = &io->gin[input];
    dtype_t type = io->in[LCE_H].dtype;
    if (!to->data) return;
    gemm_t g;
    g.m = io->in[input].dim[0], g.n = l.d, g.k = c.rows;
    g.a = scratch_at(io, l.z) + (size_t)first * dtype_size(type), g.lda = gradient_stride(io, l), g.ta = true;
    g.b = c.h, g.c = to->data;
    g.a_type = g.b_type = type;
    g.c_type = to->dtype;
    g.acc = io->acc[input] || c.first > 0;
    gemm_run(io->device, &g);
}

static void run_weights(const op_io_t *io, const layout_t &l) {
    const int64_t first_of_t = io->gin[LCE_T].data ? ((const linear_cross_entropy_attr_t *)io->attr)->first : 0;
    const double *dloss = (const double *)io->gout.data;
    const void *w = l.rows ? weights(io, l) : NULL;
    int64_t first = 0;
    do { /* once without rows too: a product over nothing gives zeroes */
        chunk_t c = chunk_at(io, l, first);
        if (c.rows) {
            run_logits(io, l, c, w);
            run_gradient(io, l, c, dloss);
        }
        run_dw(io, l, c, LCE_W, 0);
        run_dw(io, l, c, LCE_T, first_of_t);
        first += l.chunk;
    } while (first < l.rows);
}

extern "C" void cuda_linear_cross_entropy_bwd(const op_io_t *io) {
    const layout_t l = layout_of(io);
    if (io->gin[LCE_H].data)
        with_real(io->in[LCE_H].dtype, [&](auto one) {
            using T = decltype(one);
            launch(cuda_stream(io), dim3((unsigned)cuda_parts(l.rows * l.d, THREADS)), dim3(THREADS), 0,
                   scale_kernel<T>, (const T *)io->out[LCE_DH].data, (const double *)io->gout.data,
                   (T *)io->gin[LCE_H].data, l.rows * l.d, io->acc[LCE_H]);
        });
    if (io->gin[LCE_W].data || io->gin[LCE_T].data) run_weights(io, l);
}
