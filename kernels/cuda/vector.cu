/* Flat vectors on a device (kernels/vector.h). All are bounded by memory. Floors, per number: norm 4 bytes, AdamW
 * 7 x 4 (gradient, weight and both moments read, the last three written): scaling and clipping happen on the way into
 * the update, so the gradient is read twice and never written. */
#include "kernels/cuda/cuda.cuh"

enum { THREADS = 256, LANES = 4, SUM_THREADS = 1024 };

static cudaStream_t stream_of(device_t *d) {
    return (cudaStream_t)d->stream;
}

static bool is_aligned(const void *p, size_t bytes) {
    return (uintptr_t)p % bytes == 0;
}

__global__ void add_kernel(float *y, const float *x, int64_t n, bool packs) {
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * LANES;
    if (packs && i + LANES <= n) {
        pack_t<float> a = load_pack(y + i), b = load_pack(x + i);
        for (int k = 0; k < LANES; k++) a.v[k] += b.v[k];
        store_pack(y + i, a);
        return;
    }
    for (int64_t k = i; k < n && k < i + LANES; k++) y[k] += x[k];
}

static void add(device_t *d, float *y, const float *x, int64_t n) {
    launch(stream_of(d), dim3((unsigned)cuda_parts(n, THREADS * LANES)), dim3(THREADS), 0, add_kernel, y, x, n,
           is_aligned(y, 16) && is_aligned(x, 16));
}

template <class T> __global__ void convert_kernel(T *to, const float *x, int64_t n) {
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n) to[i] = from_float<T>(x[i]);
}

static void convert(device_t *d, void *to, dtype_t to_type, const float *x, int64_t n) {
    with_real(to_type, [&](auto one) {
        using T = decltype(one);
        launch(stream_of(d), dim3((unsigned)cuda_parts(n, THREADS)), dim3(THREADS), 0, convert_kernel<T>, (T *)to, x,
               n);
    });
}

__global__ void taint_kernel(float *g, const double *loss, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(loss[i])) g[0] = NAN;
}

static void taint(device_t *d, float *g, const double *loss, int64_t n) {
    launch(stream_of(d), dim3(n > 0), dim3(1), 0, taint_kernel, g, loss, n);
}

__device__ __forceinline__ double squared(float g, float f) {
    float v = g * f;
    return (double)v * (double)v;
}

/* One block of numbers each. */
__global__ __launch_bounds__(THREADS) void squares_kernel(const float *g, int64_t n, const vector_step_t *step,
                                                          double *partial, bool packs) {
    SHARED(double, part, 32);
    const float f = (float)step->scale;
    int64_t first = (int64_t)blockIdx.x * VECTOR_BLOCK;
    double sum = 0;
    if (packs && first + VECTOR_BLOCK <= n) {
        for (int i = 0; i < VECTOR_BLOCK / (THREADS * LANES); i++) {
            pack_t<float> p = load_pack(g + first + ((int64_t)i * THREADS + threadIdx.x) * LANES);
            for (int k = 0; k < LANES; k++) sum += squared(p.v[k], f);
        }
    } else {
        for (int64_t i = first + threadIdx.x; i < n && i < first + VECTOR_BLOCK; i += THREADS) sum += squared(g[i], f);
    }
    sum = block_sum(sum, part);
    if (threadIdx.x == 0) partial[blockIdx.x] = sum;
}

/* Of one block of threads, in an order that depends on n alone. */
__device__ __forceinline__ double sum_of(const double *partial, int64_t n, shared_t<double> part) {
    double sum = 0;
    for (int64_t i = threadIdx.x; i < n; i += SUM_THREADS) sum += partial[i];
    return block_sum(sum, part);
}

__global__ __launch_bounds__(SUM_THREADS) void total_kernel(const double *partial, int64_t n, double *to) {
    SHARED(double, part, 32);
    double sum = sum_of(partial, n, part);
    if (threadIdx.x == 0) *to = sum;
}

__global__ __launch_bounds__(SUM_THREADS) void norm_kernel(const double *partial, int64_t n, const vector_step_t *step,
                                                           vector_outcome_t *out) {
    SHARED(double, part, 32);
    double sum = sum_of(partial, n, part);
    if (threadIdx.x) return;
    double norm = sqrt(sum), factor = step->max_norm > 0 ? step->max_norm / (norm + 1e-6) : 1.0;
    out->norm = norm;
    out->clip = factor < 1.0 ? factor : 1.0;
    out->bad += !isfinite(norm);
}

static void squares(device_t *d, const float *g, int64_t n, const vector_step_t *step, double *partial) {
    launch(stream_of(d), dim3((unsigned)vector_blocks(n)), dim3(THREADS), 0, squares_kernel, g, n, step, partial,
           is_aligned(g, 16));
}

static void sum(device_t *d, const double *partial, int64_t n, double *to) {
    launch(stream_of(d), dim3(1), dim3(SUM_THREADS), 0, total_kernel, partial, n, to);
}

static void norm(device_t *d, const double *partial, int64_t n, const vector_step_t *step, vector_outcome_t *out) {
    launch(stream_of(d), dim3(1), dim3(SUM_THREADS), 0, norm_kernel, partial, n, step, out);
}

/* The numbers of an update that are the same over a tile, rounded as the CPU rounds them. */
struct rates_t {
    float b1, c1, b2, c2, root2, eps, scale, clip, keep, size;
};

__device__ __forceinline__ rates_t rates_of(const vector_adamw_t &a, const vector_tile_t &t, const vector_step_t &step,
                                            float clip) {
    double rate = step.rate * t.lr_scale;
    rates_t r;
    r.b1 = (float)a.beta1;
    r.c1 = (float)(1.0 - a.beta1);
    r.b2 = (float)a.beta2;
    r.c2 = (float)(1.0 - a.beta2);
    r.root2 = (float)sqrt(step.correction2);
    r.eps = (float)a.epsilon;
    r.scale = (float)step.scale;
    r.clip = clip;
    r.keep = t.decay ? (float)(1.0 - rate * a.weight_decay) : 1.0f;
    r.size = (float)(rate / step.correction1);
    return r;
}

__device__ __forceinline__ void update(const rates_t &r, float g, float &m, float &v, float &x) {
    float s = g * r.scale * r.clip;
    m = r.b1 * m + r.c1 * s;
    v = r.b2 * v + r.c2 * s * s;
    x = x * r.keep - r.size * (m / (sqrtf(v) / r.root2 + r.eps));
}

/* One tile a block. Tensors lie densely, so a tile may begin anywhere; then numbers go one by one. */
__global__ __launch_bounds__(THREADS) void adamw_kernel(vector_adamw_t a, const float *grad, const vector_step_t *step,
                                                        const vector_outcome_t *out) {
    if (out->bad) return;
    const vector_tile_t t = a.tile[blockIdx.x];
    const rates_t r = rates_of(a, t, *step, (float)out->clip);
    const float *g = grad + t.at;
    float *m = a.exp_avg + (t.at - a.first), *v = a.exp_avg_sq + (t.at - a.first), *x = t.x;
    uintptr_t all = (uintptr_t)g | (uintptr_t)m | (uintptr_t)v | (uintptr_t)x;
    int64_t packed = all % 16 == 0 ? t.n / LANES * LANES : 0;
    for (int64_t i = threadIdx.x * LANES; i < packed; i += THREADS * LANES) {
        pack_t<float> pg = load_pack(g + i), pm = load_pack(m + i), pv = load_pack(v + i), px = load_pack(x + i);
        for (int k = 0; k < LANES; k++) update(r, pg.v[k], pm.v[k], pv.v[k], px.v[k]);
        store_pack(m + i, pm);
        store_pack(v + i, pv);
        store_pack(x + i, px);
    }
    for (int64_t i = packed + threadIdx.x; i < t.n; i += THREADS) update(r, g[i], m[i], v[i], x[i]);
}

static void adamw(device_t *d, const vector_adamw_t *a, const float *g, const vector_step_t *step,
                  const vector_outcome_t *out) {
    launch(stream_of(d), dim3((unsigned)a->n_tile), dim3(THREADS), 0, adamw_kernel, *a, g, step, out);
}

extern "C" {
extern const vector_calls_t vector_cuda = {add, convert, taint, squares, sum, norm, adamw};
}
