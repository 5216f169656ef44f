#include "kernels/ops/lowrank.h"
#include <math.h>
#include "kernels/cpu/cpu.h"
#include "kernels/philox.h"

enum { ROWS = 128, LANES = 32, SUM_BLOCK = 4096 };

/* Rows are cut in chunks. A thread's scratch: mask and drop(x) (or a piece of dx) of a chunk, dt of a chunk, and the
 * row-independent half of the mask's counters. Backward adds one partial dA and dB per chunk, summed in the order of
 * chunks at the end. */
typedef struct plan {
    int64_t rows, k, m, r, chunk, chunks;
    int64_t partial;     /* floats of one chunk's dA and dB */
    int64_t thread_part; /* floats per thread */
    bool drop;
    float keep_scale;  /* 1/(1-p) */
    int32_t threshold; /* an element is kept when its 24 bits reach this */
} plan_t;

static plan_t plan_of(const op_io_t *io) {
    const lowrank_attr_t *at = io->attr;
    plan_t p = {.rows = io->in[LOWRANK_X].dim[0],
                .k = io->in[LOWRANK_A].dim[1],
                .r = io->in[LOWRANK_A].dim[0],
                .m = io->in[LOWRANK_B].dim[0]};
    p.chunk = cpu_tile(p.rows, ROWS);
    p.chunks = cpu_parts(p.rows, p.chunk);
    p.partial = p.r * (p.k + p.m);
    p.thread_part = ROWS * (2 * p.k + p.r) + 2 * (p.k / 4 + LANES); /* no smaller for fewer rows: chunks differ */
    p.thread_part += p.thread_part % 2;                             /* keeps the 64-bit counters aligned */
    p.drop = at->dropout > 0 && io->step && io->step->training;
    p.keep_scale = (float)(1 / (1 - at->dropout));
    p.threshold = (int32_t)ceil(at->dropout * 0x1p24);
    return p;
}

static int64_t shared_part(const plan_t *p) {
    return p->chunks * p->partial + (p->chunks * p->partial) % 2;
}

size_t cpu_lowrank_scratch(const op_io_t *io) {
    plan_t p = plan_of(io);
    return cpu_scratch_bytes(shared_part(&p), p.thread_part);
}

/* philox4x32 of LANES counters that differ in their low halves c0, c1. */
GRAFT_CLONES static void philox_lanes(uint32_t word[4][LANES], const uint64_t *hash, uint64_t key, uint64_t step,
                                      uint32_t k0, uint32_t k1) {
    uint32_t *restrict c0 = word[0], *restrict c1 = word[1], *restrict c2 = word[2], *restrict c3 = word[3];
    for (int l = 0; l < LANES; l++) {
        uint64_t index = key ^ hash[l];
        c0[l] = (uint32_t)index;
        c1[l] = (uint32_t)(index >> 32);
        c2[l] = (uint32_t)step;
        c3[l] = (uint32_t)(step >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < LANES; l++) {
            uint64_t p0 = (uint64_t)0xD2511F53u * c0[l], p1 = (uint64_t)0xCD9E8D57u * c2[l];
            uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1[l] ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c0[l] = n0;
            c1[l] = (uint32_t)p1;
            c2[l] = n2;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

/* The factors of 4 * LANES elements: 0 or the bits of keep_scale, without a branch. */
GRAFT_CLONES static void mask_lanes(float *restrict mask, uint32_t word[4][LANES], int32_t threshold,
                                    float keep_scale) {
    int32_t keep;
    memcpy(&keep, &keep_scale, sizeof keep);
    int32_t bits[4 * LANES];
    for (int l = 0; l < LANES; l++) {
        bits[4 * l] = keep & -(int32_t)((int32_t)(word[0][l] >> 8) >= threshold);
        bits[4 * l + 1] = keep & -(int32_t)((int32_t)(word[1][l] >> 8) >= threshold);
        bits[4 * l + 2] = keep & -(int32_t)((int32_t)(word[2][l] >> 8) >= threshold);
        bits[4 * l + 3] = keep & -(int32_t)((int32_t)(word[3][l] >> 8) >= threshold);
    }
    memcpy(mask, bits, sizeof bits);
}

/* The factors 0 or 1/(1-p) of one row. */
static void mask_row(const op_io_t *io, const plan_t *p, uint64_t key, const uint64_t *hash, float *mask) {
    uint32_t word[4][LANES];
    const uint32_t k0 = (uint32_t)io->step->seed;
    const uint32_t k1 = (uint32_t)(io->step->seed >> 32) ^ ((uint32_t)RNG_DROPOUT * 0x85EBCA6Bu);
    for (int64_t g = 0; 4 * g < p->k; g += LANES) {
        philox_lanes(word, hash + g, key, io->step->step, k0, k1);
        float factor[4 * LANES];
        int64_t count = cpu_min(4 * LANES, p->k - 4 * g);
        mask_lanes(factor, word, p->threshold, p->keep_scale);
        memcpy(mask + 4 * g, factor, (size_t)count * sizeof *mask);
    }
}

GRAFT_CLONES static void multiply(float *restrict y, const float *restrict a, const float *restrict b, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

GRAFT_CLONES static void put_product(float *restrict y, bool acc, const float *restrict a, const float *restrict b,
                                     int64_t n) {
    if (acc)
        for (int64_t i = 0; i < n; i++) y[i] += a[i] * b[i];
    else
        for (int64_t i = 0; i < n; i++) y[i] = a[i] * b[i];
}

/* Fills the mask of a chunk; `hash` has room for k/4 + LANES counters. */
static void mask_chunk(const op_io_t *io, const plan_t *p, int64_t first, int64_t rows, float *mask, uint64_t *hash) {
    const lowrank_attr_t *at = io->attr;
    const uint64_t *key = io->in[LOWRANK_KEY].data;
    for (int64_t g = 0; g < p->k / 4 + LANES; g++) hash[g] = lowrank_dropout_index(0, at->site, g);
    for (int64_t n = 0; n < rows; n++) mask_row(io, p, key[first + n], hash, mask + n * p->k);
}

void cpu_lowrank_fwd(const op_io_t *io) {
    const lowrank_attr_t *at = io->attr;
    const float *y = io->in[LOWRANK_Y].data, *x = io->in[LOWRANK_X].data;
    const float *a = io->in[LOWRANK_A].data, *b = io->in[LOWRANK_B].data;
    float *out = io->out[LOWRANK_OUT].data, *t = io->out[LOWRANK_T].data;
    const plan_t p = plan_of(io);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < p.chunks; c++) {
        int64_t first = c * p.chunk, rows = cpu_min(p.chunk, p.rows - first);
        uint64_t *hash = (uint64_t *)cpu_thread_scratch(io, shared_part(&p), p.thread_part);
        float *mask = (float *)(hash + p.k / 4 + LANES), *dropped = mask + ROWS * p.k;
        const float *x_chunk = x + first * p.k;
        if (p.drop) {
            mask_chunk(io, &p, first, rows, mask, hash);
            multiply(dropped, x_chunk, mask, rows * p.k);
            x_chunk = dropped;
        }
        if (out != y) memcpy(out + first * p.m, y + first * p.m, (size_t)(rows * p.m) * sizeof *out);
        cpu_gemm('N', 'T', rows, p.r, p.k, 1.0f, x_chunk, p.k, a, p.k, 0.0f, t + first * p.r, p.r);
        cpu_gemm('N', 'T', rows, p.m, p.r, (float)at->scale, t + first * p.r, p.r, b, p.r, 1.0f, out + first * p.m,
                 p.m);
    }
}

static void backward_chunk(const op_io_t *io, const plan_t *p, int64_t c) {
    const lowrank_attr_t *at = io->attr;
    int64_t first = c * p->chunk, rows = cpu_min(p->chunk, p->rows - first), k = p->k, m = p->m, r = p->r;
    const float *dout = (const float *)io->gout.data + first * m, *a = io->in[LOWRANK_A].data;
    float *dx = io->gin[LOWRANK_X].data, *da = (float *)io->scratch + c * p->partial, *db = da + r * k;
    uint64_t *hash = (uint64_t *)cpu_thread_scratch(io, shared_part(p), p->thread_part);
    float *mask = (float *)(hash + k / 4 + LANES), *piece = mask + ROWS * k, *dt = piece + ROWS * k;
    const float scale = (float)at->scale;

    if (io->gin[LOWRANK_B].data) {
        const float *t = (const float *)io->out[LOWRANK_T].data + first * r;
        cpu_gemm('T', 'N', m, r, rows, scale, dout, m, t, r, 0.0f, db, r);
    }
    if (!dx && !io->gin[LOWRANK_A].data) return;
    cpu_gemm('N', 'N', rows, r, m, scale, dout, m, io->in[LOWRANK_B].data, r, 0.0f, dt, r);
    if (p->drop) mask_chunk(io, p, first, rows, mask, hash);
    if (io->gin[LOWRANK_A].data) {
        const float *x = (const float *)io->in[LOWRANK_X].data + first * k;
        if (p->drop) multiply(piece, x, mask, rows * k);
        cpu_gemm('T', 'N', r, k, rows, 1.0f, dt, r, p->drop ? piece : x, k, 0.0f, da, k);
    }
    if (!dx) return;
    dx += first * k;
    if (!p->drop) {
        cpu_gemm('N', 'N', rows, k, r, 1.0f, dt, r, a, k, io->acc[LOWRANK_X] ? 1.0f : 0.0f, dx, k);
        return;
    }
    cpu_gemm('N', 'N', rows, k, r, 1.0f, dt, r, a, k, 0.0f, piece, k);
    put_product(dx, io->acc[LOWRANK_X], piece, mask, rows * k);
}

/* g = sum over chunks of its partials, in order. */
static void sum_partials(const plan_t *p, const float *partial, float *g, bool acc, int64_t n) {
    if (!g) return;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < cpu_parts(n, SUM_BLOCK); block++)
        for (int64_t i = block * SUM_BLOCK; i < cpu_min(n, (block + 1) * SUM_BLOCK); i++) {
            float sum = 0;
            for (int64_t c = 0; c < p->chunks; c++) sum += partial[c * p->partial + i];
            g[i] = acc ? g[i] + sum : sum;
        }
}

void cpu_lowrank_bwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    const float *dout = io->gout.data, *partials = io->scratch;
    float *dy = io->gin[LOWRANK_Y].data;
    if (dy && dy != dout) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < p.rows; n++)
            for (int64_t i = n * p.m; i < (n + 1) * p.m; i++) dy[i] = io->acc[LOWRANK_Y] ? dy[i] + dout[i] : dout[i];
    }
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < p.chunks; c++) backward_chunk(io, &p, c);
    sum_partials(&p, partials, io->gin[LOWRANK_A].data, io->acc[LOWRANK_A], p.r * p.k);
    sum_partials(&p, partials + p.r * p.k, io->gin[LOWRANK_B].data, io->acc[LOWRANK_B], p.r * p.m);
}
