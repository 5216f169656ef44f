/* Causal attention of packed sequences: which kernels run, and the row sums that backward starts with.
 *
 * No score is ever in memory: forward keeps a running maximum and sum per row, backward makes p again from lse (Dao et
 * al. 2022; Dao 2023). Backward adds nothing from two blocks: one kernel has a tile of queries per block and makes dq,
 * one has a tile of keys per block, loops over the heads of its group and makes dk and dv. That is 7 products of the
 * size of the scores where one pass with atomic adds has 5, and the price of equal bits.
 * Scratch: N * H floats. */
#include "kernels/cuda/attention.cuh"

static attention_t attention_of(const op_io_t *io) {
    const attention_attr_t *at = (const attention_attr_t *)io->attr;
    const view_t *in = io->in;
    attention_t a = {};
    a.q = in[ATTENTION_Q].data;
    a.k = in[ATTENTION_K].data;
    a.v = in[ATTENTION_V].data;
    a.prefix_k = in[ATTENTION_PREFIX_K].data;
    a.prefix_v = in[ATTENTION_PREFIX_V].data;
    a.cu = (const int32_t *)in[ATTENTION_CU].data;
    a.cu_prefix = (const int32_t *)in[ATTENTION_CU_PREFIX].data;
    a.out = io->out[ATTENTION_O].data;
    a.lse = (float *)io->out[ATTENTION_LSE].data;
    a.bf16 = in[ATTENTION_Q].dtype == DT_BF16;
    a.prefix_bf16 = in[ATTENTION_PREFIX_K].dtype == DT_BF16;
    a.rows = (int)in[ATTENTION_Q].dim[0];
    a.prefix_rows = in[ATTENTION_PREFIX_K].rank ? (int)in[ATTENTION_PREFIX_K].dim[0] : 0;
    a.sequences = (int)in[ATTENTION_CU].dim[0] - 1;
    a.heads = (int)at->heads;
    a.kv_heads = (int)at->kv_heads;
    a.dim = (int)at->head_dim;
    a.scale = (float)at->scale;
    return a;
}

static bool uses_mma(const attention_t *a) {
    return a->bf16 && attention_has_mma(a->dim);
}

size_t cuda_attention_scratch(const op_io_t *io) {
    const attention_attr_t *at = (const attention_attr_t *)io->attr;
    return (size_t)(io->in[ATTENTION_Q].dim[0] * at->heads) * sizeof(float);
}

void cuda_attention_fwd(const op_io_t *io) {
    attention_t a = attention_of(io);
    a.o = io->out[ATTENTION_O].data;
    if (uses_mma(&a))
        attention_mma_forward(&a, cuda_stream(io));
    else
        attention_simt_forward(&a, cuda_stream(io));
}

enum { DELTA_THREADS = 256, DELTA_LANES = 8, DELTA_HEADS = DELTA_THREADS / DELTA_LANES };

/* delta = sum_c do o, one head of one row by DELTA_LANES lanes. */
static __global__ void __launch_bounds__(DELTA_THREADS) delta_rows(attention_t a) {
    int64_t row = (int64_t)blockIdx.x * DELTA_HEADS + threadIdx.x / DELTA_LANES, total = (int64_t)a.rows * a.heads;
    int lane = (int)(threadIdx.x % DELTA_LANES);
    float sum = 0.0f;
    for (int c = lane; row < total && c < a.dim; c += DELTA_LANES)
        sum += load_real(a.gout, a.bf16, row * a.dim + c) * load_real(a.out, a.bf16, row * a.dim + c);
    for (int m = DELTA_LANES / 2; m; m >>= 1) sum += warp_xor(sum, m);
    if (row < total && lane == 0) a.delta[row] = sum;
}

static void keys_backward(const op_io_t *io, const attention_t *a, int key, int value, bool own) {
    attention_keys_t y = {};
    y.k = io->in[key].data;
    y.v = io->in[value].data;
    y.cu = own ? a->cu : a->cu_prefix;
    y.dk = io->gin[key].data;
    y.dv = io->gin[value].data;
    y.own = own;
    y.bf16 = io->in[key].dtype == DT_BF16;
    y.acc_k = io->acc[key];
    y.acc_v = io->acc[value];
    y.rows = own ? a->rows : a->prefix_rows;
    if (!y.dk && !y.dv) return;
    if (uses_mma(a))
        attention_mma_keys(a, &y, cuda_stream(io));
    else
        attention_simt_keys(a, &y, cuda_stream(io));
}

void cuda_attention_bwd(const op_io_t *io) {
    attention_t a = attention_of(io);
    const view_t *g = io->gin;
    a.gout = io->gout.data;
    a.delta = (float *)io->scratch;
    a.dq = g[ATTENTION_Q].data;
    a.acc_q = io->acc[ATTENTION_Q];
    if (g[ATTENTION_Q].data || g[ATTENTION_K].data || g[ATTENTION_PREFIX_K].data)
        launch(cuda_stream(io), dim3((unsigned)cuda_parts((int64_t)a.rows * a.heads, DELTA_HEADS)), dim3(DELTA_THREADS),
               0, delta_rows, a);
    if (a.dq && uses_mma(&a))
        attention_mma_queries(&a, cuda_stream(io));
    else if (a.dq)
        attention_simt_queries(&a, cuda_stream(io));
    keys_backward(io, &a, ATTENTION_K, ATTENTION_V, true);
    keys_backward(io, &a, ATTENTION_PREFIX_K, ATTENTION_PREFIX_V, false);
}
