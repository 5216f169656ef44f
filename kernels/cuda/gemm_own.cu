/* The product for what cuBLASLt does not take: any sizes, strides, alignment and mix of types. A block makes a tile of
 * C from tiles of A and B in shared memory as floats, k from 0 upwards, so the order of sums is fixed. */
#include "kernels/cuda/gemm.h"

namespace {

enum { TILE = 64, STEP = 16, THREADS = 256, ROW = TILE + 4, EACH = 4 };

/* Tiles of op(A) and of op(B)^T have one form: `outer` rows and columns of C, `inner` the sum's index. */
struct side_t {
    const void *data;
    int64_t outer_stride, inner_stride, outers;
};

struct own_t {
    side_t a, b;
    void *c;
    const void *bias;
    int64_t k, ldc;
    float alpha;
    bool acc, bias_bf16;
};

template <class T>
__device__ __forceinline__ void load_tile(const side_t &s, int64_t outer0, int64_t inner0, int64_t inners,
                                          shared_t<float> to) {
    const T *data = static_cast<const T *>(s.data);
    bool along_inner = s.inner_stride == 1;
    for (int i = (int)threadIdx.x; i < TILE * STEP; i += THREADS) {
        int o = along_inner ? i / STEP : i % TILE, in = along_inner ? i % STEP : i / TILE;
        bool there = outer0 + o < s.outers && inner0 + in < inners;
        to[in * ROW + o] =
            there ? to_float(data[(outer0 + o) * s.outer_stride + (inner0 + in) * s.inner_stride]) : 0.0f;
    }
}

template <class TC> __device__ __forceinline__ void store(const own_t &p, int64_t row, int64_t col, float sum) {
    if (row >= p.a.outers || col >= p.b.outers) return;
    float v = p.alpha * sum;
    if (p.bias)
        v += p.bias_bf16 ? to_float(static_cast<const bf16_t *>(p.bias)[col]) : static_cast<const float *>(p.bias)[col];
    put(static_cast<TC *>(p.c) + row * p.ldc + col, v, p.acc);
}

template <class TA, class TB, class TC> __global__ void __launch_bounds__(THREADS) own_product(own_t p) {
    SHARED(float, a, STEP *ROW);
    SHARED(float, b, STEP *ROW);
    const int64_t row0 = (int64_t)blockIdx.y * TILE, col0 = (int64_t)blockIdx.x * TILE;
    const int r = (int)threadIdx.x / 16, c = (int)threadIdx.x % 16; /* rows r, r + 16, ... */
    float sum[EACH][EACH] = {};
    for (int64_t k0 = 0; k0 < p.k; k0 += STEP) {
        load_tile<TA>(p.a, row0, k0, p.k, a);
        load_tile<TB>(p.b, col0, k0, p.k, b);
        block_sync();
        for (int k = 0; k < STEP; k++) {
            float left[EACH], right[EACH];
            for (int i = 0; i < EACH; i++) left[i] = a[k * ROW + r + 16 * i];
            for (int j = 0; j < EACH; j++) right[j] = b[k * ROW + c + 16 * j];
            for (int i = 0; i < EACH; i++)
                for (int j = 0; j < EACH; j++) sum[i][j] += left[i] * right[j];
        }
        block_sync();
    }
    for (int i = 0; i < EACH; i++)
        for (int j = 0; j < EACH; j++) store<TC>(p, row0 + r + 16 * i, col0 + c + 16 * j, sum[i][j]);
}

__global__ void convert(const float *from, int64_t count, bf16_t *to) {
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (int64_t)gridDim.x * blockDim.x)
        to[i] = from_float<bf16_t>(from[i]);
}

side_t side_of(const void *data, bool inner_first, int64_t ld, int64_t outers) {
    side_t s;
    s.data = data;
    s.outer_stride = inner_first ? 1 : ld;
    s.inner_stride = inner_first ? ld : 1;
    s.outers = outers;
    return s;
}

} // namespace

void gemm_own(cudaStream_t stream, const gemm_t *g) {
    own_t p;
    p.a = side_of(g->a, g->ta, g->lda ? g->lda : g->ta ? g->m : g->k, g->m);
    p.b = side_of(g->b, !g->tb, g->ldb ? g->ldb : g->tb ? g->k : g->n, g->n);
    p.c = g->c;
    p.bias = g->bias;
    p.k = g->k;
    p.ldc = g->ldc ? g->ldc : g->n;
    p.alpha = g->alpha;
    p.acc = g->acc;
    p.bias_bf16 = g->bias_type == DT_BF16;
    const dim3 grid((unsigned)cuda_parts(g->n, TILE), (unsigned)cuda_parts(g->m, TILE));
    with_real(g->a_type, [&](auto a) {
        with_real(g->b_type, [&](auto b) {
            with_real(g->c_type, [&](auto c) {
                launch(stream, grid, dim3(THREADS), 0, own_product<decltype(a), decltype(b), decltype(c)>, p);
            });
        });
    });
}

void gemm_to_bf16(cudaStream_t stream, const float *from, int64_t count, bf16_t *to) {
    int64_t blocks = cuda_parts(count, 1024);
    launch(stream, dim3((unsigned)(blocks < 4096 ? blocks : 4096)), dim3(256), 0, convert, from, count, to);
}
