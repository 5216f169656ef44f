/* Linear layers of several experts. Which rows an expert has is known on the device alone, and grids follow shapes
 * alone; so each expert's product runs over all rows, on tensor cores for bfloat16, and a copy picks its rows. That
 * costs E products; a mixture has few experts (DEMix: one a domain). Rows of no sequence get 0. */
#include "kernels/cuda/bias_gradient.h"
#include "kernels/cuda/gemm.h"
extern "C" {
#include "kernels/ops/routed_linear.h"
}

namespace {

enum { THREADS = 256 };

struct sizes_t {
    int64_t rows, k, m, experts, sequences;
    dtype_t real;
    bool narrow;                        /* W is copied to bfloat16 */
    size_t weight_at, piece_at, sum_at; /* in scratch, behind the rows' experts; piece: [N, max(k,m)] */
};

size_t aligned(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

sizes_t sizes_of(const op_io_t *io) {
    const routed_linear_attr_t *at = (const routed_linear_attr_t *)io->attr;
    const view_t *x = &io->in[ROUTED_LINEAR_X], *w = &io->in[ROUTED_LINEAR_W];
    sizes_t z;
    z.rows = x->dim[0];
    z.k = x->dim[1];
    z.m = w->dim[0] / at->experts;
    z.experts = at->experts;
    z.sequences = io->in[ROUTED_LINEAR_EXPERT].dim[0];
    z.real = x->dtype;
    z.narrow = z.real == DT_BF16 && w->dtype == DT_F32;
    z.weight_at = aligned(sizeof(int32_t) * (size_t)z.rows);
    z.piece_at = z.weight_at + (z.narrow ? aligned(sizeof(bf16_t) * (size_t)(w->dim[0] * z.k)) : 0);
    z.sum_at = z.piece_at + aligned(dtype_size(z.real) * (size_t)(z.rows * (z.k > z.m ? z.k : z.m)));
    return z;
}

/* route[n]: the expert of row n, -1: none. */
__global__ void find_routes(const int32_t *cu, const int32_t *expert, int64_t sequences, int64_t experts, int64_t rows,
                            int32_t *route) {
    const int64_t n = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (n >= rows) return;
    int64_t low = 0, high = sequences + 1; /* the first place whose number exceeds n */
    while (low < high) {
        int64_t middle = (low + high) / 2;
        if (cu[middle] <= n)
            low = middle + 1;
        else
            high = middle;
    }
    const int64_t s = low - 1;
    int32_t e = s >= 0 && s < sequences ? expert[s] : -1;
    route[n] = e >= 0 && e < experts ? e : -1;
}

/* to[n,:] (+)= from[n,:] for the rows of expert e. Rows of none are cleared with expert 0. */
template <class T>
__global__ void pick_rows(const T *from, const int32_t *route, int32_t e, int64_t rows, int64_t cols, bool acc, T *to) {
    const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t n = blockIdx.y; n < rows; n += gridDim.y) {
        if (j >= cols) return;
        if (route[n] == e)
            put(to + n * cols + j, to_float(from[n * cols + j]), acc);
        else if (route[n] < 0 && e == 0 && !acc)
            to[n * cols + j] = from_float<T>(0.0f);
    }
}

/* to[n,:] = from[n,:] for the rows of expert e, 0 for the others. */
template <class T>
__global__ void keep_rows(const T *from, const int32_t *route, int32_t e, int64_t rows, int64_t cols, T *to) {
    const int64_t j = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    for (int64_t n = blockIdx.y; n < rows; n += gridDim.y)
        if (j < cols) to[n * cols + j] = route[n] == e ? from[n * cols + j] : from_float<T>(0.0f);
}

dim3 grid_of(int64_t rows, int64_t cols) {
    return dim3((unsigned)cuda_parts(cols, THREADS), (unsigned)(rows < 65535 ? rows : 65535));
}

int32_t *routes_of(const op_io_t *io, const sizes_t &z) {
    int32_t *route = (int32_t *)io->scratch;
    launch(cuda_stream(io), dim3((unsigned)cuda_parts(z.rows, THREADS)), dim3(THREADS), 0, find_routes,
           (const int32_t *)io->in[ROUTED_LINEAR_CU].data, (const int32_t *)io->in[ROUTED_LINEAR_EXPERT].data,
           z.sequences, z.experts, z.rows, route);
    return route;
}

const char *weights_of(const op_io_t *io, const sizes_t &z) {
    const view_t *w = &io->in[ROUTED_LINEAR_W];
    if (!z.narrow) return (const char *)w->data;
    bf16_t *copy = (bf16_t *)((char *)io->scratch + z.weight_at);
    gemm_to_bf16(cuda_stream(io), (const float *)w->data, w->dim[0] * z.k, copy);
    return (const char *)copy;
}

void pick(const op_io_t *io, const sizes_t &z, const int32_t *route, int64_t e, int64_t cols, bool acc, void *to) {
    with_real(z.real, [&](auto one) {
        using T = decltype(one);
        launch(cuda_stream(io), grid_of(z.rows, cols), dim3(THREADS), 0, pick_rows<T>,
               (const T *)((char *)io->scratch + z.piece_at), route, (int32_t)e, z.rows, cols, acc, (T *)to);
    });
}

/* dx over all rows for expert e's block, of which its rows are picked. */
void input_gradient(const op_io_t *io, const sizes_t &z, const int32_t *route, const char *weights, int64_t e) {
    gemm_t g;
    g.m = z.rows;
    g.n = z.k;
    g.k = z.m;
    g.a = io->gout.data;
    g.b = weights + e * z.m * z.k * (int64_t)dtype_size(z.real);
    g.c = (char *)io->scratch + z.piece_at;
    g.a_type = g.b_type = g.c_type = z.real;
    gemm_run(io->device, &g);
    pick(io, z, route, e, z.k, io->acc[ROUTED_LINEAR_X], io->gin[ROUTED_LINEAR_X].data);
}

/* dW and db of expert e from dy with other experts' rows cleared. */
void parameter_gradients(const op_io_t *io, const sizes_t &z, const int32_t *route, int64_t e) {
    float *dw = (float *)io->gin[ROUTED_LINEAR_W].data, *db = (float *)io->gin[ROUTED_LINEAR_B].data;
    void *piece = (char *)io->scratch + z.piece_at;
    with_real(z.real, [&](auto one) {
        using T = decltype(one);
        launch(cuda_stream(io), grid_of(z.rows, z.m), dim3(THREADS), 0, keep_rows<T>, (const T *)io->gout.data, route,
               (int32_t)e, z.rows, z.m, (T *)piece);
    });
    if (dw) {
        gemm_t g;
        g.m = z.m;
        g.n = z.k;
        g.k = z.rows;
        g.ta = true;
        g.a = piece;
        g.b = io->in[ROUTED_LINEAR_X].data;
        g.c = dw + e * z.m * z.k;
        g.a_type = g.b_type = z.real;
        g.acc = io->acc[ROUTED_LINEAR_W];
        gemm_run(io->device, &g);
    }
    if (db)
        bias_gradient(cuda_stream(io), z.real, piece, z.rows, z.m, (char *)io->scratch + z.sum_at,
                      io->acc[ROUTED_LINEAR_B], db + e * z.m);
}

} // namespace

size_t cuda_routed_linear_scratch(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    return z.sum_at + bias_gradient_scratch(z.rows, z.m);
}

void cuda_routed_linear_fwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    const view_t *b = &io->in[ROUTED_LINEAR_B];
    if (z.rows == 0) return;
    const int32_t *route = routes_of(io, z);
    const char *weights = weights_of(io, z);
    for (int64_t e = 0; e < z.experts; e++) {
        gemm_t g;
        g.m = z.rows;
        g.n = z.m;
        g.k = z.k;
        g.tb = true;
        g.a = io->in[ROUTED_LINEAR_X].data;
        g.b = weights + e * z.m * z.k * (int64_t)dtype_size(z.real);
        g.c = (char *)io->scratch + z.piece_at;
        g.a_type = g.b_type = g.c_type = z.real;
        g.bias = b->data ? (const char *)b->data + e * z.m * (int64_t)dtype_size(b->dtype) : nullptr;
        g.bias_type = b->dtype;
        gemm_run(io->device, &g);
        pick(io, z, route, e, z.m, false, io->out[0].data);
    }
}

void cuda_routed_linear_bwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    const bool dx = io->gin[ROUTED_LINEAR_X].data && z.rows > 0;
    const int32_t *route = routes_of(io, z);
    const char *weights = dx ? weights_of(io, z) : nullptr;
    for (int64_t e = 0; e < z.experts; e++) {
        if (dx) input_gradient(io, z, route, weights, e);
        if (io->gin[ROUTED_LINEAR_W].data || io->gin[ROUTED_LINEAR_B].data) parameter_gradients(io, z, route, e);
    }
}
