/* LoRA's term. bfloat16 activations and r <= 64: kernels of lowrank.h. Their floor is bytes: forward one read of x and
 * one read and write of y; backward one read of dy for dt and one for dB, one read of x for dA, one write (or read and
 * write) of dx. Everything else, float activations above all, goes through gemm.h, with drop(x) written out. */
#include <math.h>
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/lowrank_mask.cuh"

namespace {

struct plan_t {
    int64_t n, k, m, r;
    dtype_t real;
    float scale;
    bool tensor;         /* kernels of lowrank.h */
    lowrank_mask_t mask; /* of the attributes; the device decides by op_step_t.training */
    size_t at[4], bytes; /* parts of scratch, and all of it */
};

size_t aligned(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

lowrank_mask_t mask_of(const op_io_t *io) {
    const lowrank_attr_t *at = (const lowrank_attr_t *)io->attr;
    lowrank_mask_t m = {nullptr, io->step_on_device, (int32_t)ceil(at->dropout * 0x1p24), at->site,
                        (float)(1 / (1 - at->dropout))};
    if (at->dropout > 0) m.keys = (const uint64_t *)io->in[LOWRANK_KEY].data;
    return m;
}

lowrank_mask_t no_mask() {
    lowrank_mask_t m = {nullptr, nullptr, 0, 0, 1.0f};
    return m;
}

/* Scratch of the kernels of lowrank.h: a packed matrix [r, max(k,m)], one [max(k,m), r], dt [N,r], chunks' sums.
 * Scratch through products: A and B in bfloat16 [r,k] and [m,r], t or dt [N,r], drop(x) or dx before its mask [N,k]. */
void place_scratch(const op_io_t *io, plan_t *p) {
    const int64_t wide = p->k > p->m ? p->k : p->m;
    size_t part[4];
    if (p->tensor) {
        part[0] = lowrank_pack_bytes(p->r, wide);
        part[1] = lowrank_pack_bytes(wide, p->r);
        part[2] = sizeof(float) * (size_t)(p->n * p->r);
        part[3] = sizeof(float) * (size_t)lowrank_outer_floats(p->n, p->r, wide);
    } else {
        const bool narrow = p->real == DT_BF16, drop = ((const lowrank_attr_t *)io->attr)->dropout > 0;
        part[0] = narrow ? sizeof(bf16_t) * (size_t)(p->r * p->k) : 0;
        part[1] = narrow ? sizeof(bf16_t) * (size_t)(p->r * p->m) : 0;
        part[2] = dtype_size(p->real) * (size_t)(p->n * p->r);
        part[3] = drop ? dtype_size(p->real) * (size_t)(p->n * p->k) : 0;
    }
    p->bytes = 0;
    for (int i = 0; i < 4; i++) {
        p->at[i] = p->bytes;
        p->bytes += aligned(part[i]);
    }
}

plan_t plan_of(const op_io_t *io) {
    plan_t p;
    p.n = io->in[LOWRANK_X].dim[0];
    p.k = io->in[LOWRANK_A].dim[1];
    p.r = io->in[LOWRANK_A].dim[0];
    p.m = io->in[LOWRANK_B].dim[0];
    p.real = io->in[LOWRANK_X].dtype;
    p.scale = (float)((const lowrank_attr_t *)io->attr)->scale;
    p.tensor = p.real == DT_BF16 && p.r <= LOWRANK_MAX;
    p.mask = mask_of(io);
    place_scratch(io, &p);
    return p;
}

void *part_of(const op_io_t *io, const plan_t &p, int part) {
    return (char *)io->scratch + p.at[part];
}

/* ---- r <= 64, bfloat16 ------------------------------------------------------------------------------------------ */

void tensor_forward(const op_io_t *io, const plan_t &p) {
    cudaStream_t s = cuda_stream(io);
    const lowrank_mask_t none = no_mask();
    const lowrank_packed_t a = lowrank_pack(s, &io->in[LOWRANK_A], p.k, 1, p.r, p.k, part_of(io, p, 0));
    const lowrank_packed_t b = lowrank_pack(s, &io->in[LOWRANK_B], p.r, 1, p.m, p.r, part_of(io, p, 1));
    float *t = (float *)io->out[LOWRANK_T].data;
    lowrank_down(s, (const bf16_t *)io->in[LOWRANK_X].data, p.n, p.k, &a, p.r, 1.0f, &p.mask, t);
    lowrank_up(s, t, p.n, p.r, &b, p.m, p.scale, &none, (const bf16_t *)io->in[LOWRANK_Y].data,
               (bf16_t *)io->out[LOWRANK_OUT].data);
}

void tensor_backward(const op_io_t *io, const plan_t &p) {
    cudaStream_t s = cuda_stream(io);
    const lowrank_mask_t none = no_mask();
    const bf16_t *dy = (const bf16_t *)io->gout.data;
    float *da = (float *)io->gin[LOWRANK_A].data, *db = (float *)io->gin[LOWRANK_B].data;
    float *dt = (float *)part_of(io, p, 2), *partial = (float *)part_of(io, p, 3);
    bf16_t *dx = (bf16_t *)io->gin[LOWRANK_X].data;
    if (db)
        lowrank_outer(s, (const float *)io->out[LOWRANK_T].data, dy, p.n, p.r, p.m, p.scale, &none, partial, 1, p.r,
                      io->acc[LOWRANK_B], db);
    if (!dx && !da) return;
    const lowrank_packed_t b = lowrank_pack(s, &io->in[LOWRANK_B], 1, p.r, p.r, p.m, part_of(io, p, 0));
    lowrank_down(s, dy, p.n, p.m, &b, p.r, p.scale, &none, dt);
    if (da)
        lowrank_outer(s, dt, (const bf16_t *)io->in[LOWRANK_X].data, p.n, p.r, p.k, 1.0f, &p.mask, partial, p.k, 1,
                      io->acc[LOWRANK_A], da);
    if (!dx) return;
    const lowrank_packed_t a = lowrank_pack(s, &io->in[LOWRANK_A], 1, p.k, p.k, p.r, part_of(io, p, 1));
    lowrank_up(s, dt, p.n, p.r, &a, p.k, 1.0f, &p.mask, io->acc[LOWRANK_X] ? dx : nullptr, dx);
}

/* ---- products ---------------------------------------------------------------------------------------------------- */

/* A parameter in the type of activations. */
const void *narrow(const op_io_t *io, const plan_t &p, int input, int part) {
    const view_t *v = &io->in[input];
    if (v->dtype == p.real) return v->data;
    bf16_t *copy = (bf16_t *)part_of(io, p, part);
    gemm_to_bf16(cuda_stream(io), (const float *)v->data, view_count(v), copy);
    return copy;
}

/* t in the type of activations. */
const void *narrow_t(const op_io_t *io, const plan_t &p) {
    const float *t = (const float *)io->out[LOWRANK_T].data;
    if (p.real == DT_F32) return t;
    bf16_t *copy = (bf16_t *)part_of(io, p, 2);
    gemm_to_bf16(cuda_stream(io), t, p.n * p.r, copy);
    return copy;
}

const void *dropped(const op_io_t *io, const plan_t &p) {
    const void *x = io->in[LOWRANK_X].data;
    if (!p.mask.keys) return x;
    lowrank_drop(cuda_stream(io), p.real, x, p.n, p.k, &p.mask, false, part_of(io, p, 3));
    return part_of(io, p, 3);
}

/* A product of matrices of the activations' type: c [m,n] of `type`, of k numbers each. */
gemm_t product_of(const plan_t &p, int64_t m, int64_t n, int64_t k, const void *a, const void *b, void *c,
                  dtype_t type) {
    gemm_t g;
    g.m = m;
    g.n = n;
    g.k = k;
    g.a = a;
    g.b = b;
    g.c = c;
    g.a_type = g.b_type = p.real;
    g.c_type = type;
    return g;
}

void product_forward(const op_io_t *io, const plan_t &p) {
    void *out = io->out[LOWRANK_OUT].data, *y = io->in[LOWRANK_Y].data;
    gemm_t down =
        product_of(p, p.n, p.r, p.k, dropped(io, p), narrow(io, p, LOWRANK_A, 0), io->out[LOWRANK_T].data, DT_F32);
    down.tb = true;
    gemm_run(io->device, &down);
    if (out != y) {
        const lowrank_mask_t none = no_mask();
        lowrank_drop(cuda_stream(io), p.real, y, p.n, p.m, &none, false, out);
    }
    gemm_t up = product_of(p, p.n, p.m, p.r, narrow_t(io, p), narrow(io, p, LOWRANK_B, 1), out, p.real);
    up.tb = up.acc = true;
    up.alpha = p.scale;
    gemm_run(io->device, &up);
}

void input_gradient(const op_io_t *io, const plan_t &p, const void *dt) {
    void *dx = io->gin[LOWRANK_X].data, *piece = part_of(io, p, 3);
    const bool drop = p.mask.keys != nullptr;
    gemm_t g = product_of(p, p.n, p.k, p.r, dt, narrow(io, p, LOWRANK_A, 0), drop ? piece : dx, p.real);
    g.acc = !drop && io->acc[LOWRANK_X];
    gemm_run(io->device, &g);
    if (drop) lowrank_drop(cuda_stream(io), p.real, piece, p.n, p.k, &p.mask, io->acc[LOWRANK_X], dx);
}

void product_backward(const op_io_t *io, const plan_t &p) {
    const void *dy = io->gout.data;
    void *dt = part_of(io, p, 2);
    if (io->gin[LOWRANK_B].data) {
        gemm_t g = product_of(p, p.m, p.r, p.n, dy, narrow_t(io, p), io->gin[LOWRANK_B].data, DT_F32);
        g.ta = true;
        g.alpha = p.scale;
        g.acc = io->acc[LOWRANK_B];
        gemm_run(io->device, &g);
    }
    if (!io->gin[LOWRANK_X].data && !io->gin[LOWRANK_A].data) return;
    gemm_t down = product_of(p, p.n, p.r, p.m, dy, narrow(io, p, LOWRANK_B, 1), dt, p.real);
    down.alpha = p.scale;
    gemm_run(io->device, &down);
    if (io->gin[LOWRANK_A].data) {
        gemm_t g = product_of(p, p.r, p.k, p.n, dt, dropped(io, p), io->gin[LOWRANK_A].data, DT_F32);
        g.ta = true;
        g.acc = io->acc[LOWRANK_A];
        gemm_run(io->device, &g);
    }
    if (io->gin[LOWRANK_X].data) input_gradient(io, p, dt);
}

} // namespace

size_t cuda_lowrank_scratch(const op_io_t *io) {
    return plan_of(io).bytes;
}

void cuda_lowrank_fwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    if (p.n == 0) return;
    if (p.tensor)
        tensor_forward(io, p);
    else
        product_forward(io, p);
}

void cuda_lowrank_bwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    const lowrank_mask_t none = no_mask();
    void *dy = io->gin[LOWRANK_Y].data;
    if (dy && dy != io->gout.data)
        lowrank_drop(cuda_stream(io), p.real, io->gout.data, p.n, p.m, &none, io->acc[LOWRANK_Y], dy);
    if (p.tensor)
        tensor_backward(io, p);
    else
        product_backward(io, p);
}
