/* Linear layers through gemm.h. A float weight beside bfloat16 activations (full training) is copied to bfloat16 in
 * scratch first, so that the product runs on tensor cores: one more read of W and one write of half its bytes. */
#include "kernels/cuda/bias_gradient.h"
#include "kernels/cuda/gemm.h"
extern "C" {
#include "kernels/ops/linear.h"
}

namespace {

struct sizes_t {
    int64_t rows, k, m;
    bool narrow; /* W is copied to bfloat16 */
};

sizes_t sizes_of(const op_io_t *io) {
    const view_t *x = &io->in[LINEAR_X], *w = &io->in[LINEAR_W];
    return {x->dim[0], x->dim[1], w->dim[0], x->dtype == DT_BF16 && w->dtype == DT_F32};
}

/* Of the copy, so that what follows stays aligned. */
size_t copy_bytes(const sizes_t &z) {
    return z.narrow ? ((size_t)(z.m * z.k) * sizeof(bf16_t) + 255) / 256 * 256 : 0;
}

const void *weight_of(const op_io_t *io, const sizes_t &z) {
    const view_t *w = &io->in[LINEAR_W];
    if (!z.narrow) return w->data;
    gemm_to_bf16(cuda_stream(io), (const float *)w->data, z.m * z.k, (bf16_t *)io->scratch);
    return io->scratch;
}

void input_gradient(const op_io_t *io, const sizes_t &z) {
    gemm_t g;
    g.m = z.rows;
    g.n = z.k;
    g.k = z.m;
    g.a = io->gout.data;
    g.b = weight_of(io, z);
    g.c = io->gin[LINEAR_X].data;
    g.a_type = g.b_type = io->gout.dtype;
    g.c_type = io->gin[LINEAR_X].dtype;
    g.acc = io->acc[LINEAR_X];
    gemm_run(io->device, &g);
}

void weight_gradient(const op_io_t *io, const sizes_t &z) {
    gemm_t g;
    g.m = z.m;
    g.n = z.k;
    g.k = z.rows;
    g.ta = true;
    g.a = io->gout.data;
    g.b = io->in[LINEAR_X].data;
    g.c = io->gin[LINEAR_W].data;
    g.a_type = g.b_type = io->gout.dtype;
    g.c_type = io->gin[LINEAR_W].dtype;
    g.acc = io->acc[LINEAR_W];
    gemm_run(io->device, &g);
}

} // namespace

size_t cuda_linear_scratch(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    return copy_bytes(z) + (io->in[LINEAR_B].rank ? bias_gradient_scratch(z.rows, z.m) : 0);
}

void cuda_linear_fwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    if (z.rows == 0) return;
    gemm_t g;
    g.m = z.rows;
    g.n = z.m;
    g.k = z.k;
    g.tb = true;
    g.a = io->in[LINEAR_X].data;
    g.b = weight_of(io, z);
    g.c = io->out[0].data;
    g.a_type = g.b_type = g.c_type = io->out[0].dtype;
    g.bias = io->in[LINEAR_B].data;
    g.bias_type = io->in[LINEAR_B].dtype;
    gemm_run(io->device, &g);
}

void cuda_linear_bwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    if (io->gin[LINEAR_X].data && z.rows > 0) input_gradient(io, z);
    if (io->gin[LINEAR_W].data) weight_gradient(io, z);
    if (io->gin[LINEAR_B].data)
        bias_gradient(cuda_stream(io), io->gout.dtype, io->gout.data, z.rows, z.m, (char *)io->scratch + copy_bytes(z),
                      io->acc[LINEAR_B], (float *)io->gin[LINEAR_B].data);
}
