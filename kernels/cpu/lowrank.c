#include "kernels/ops/lowrank.h"
#include <math.h>
#include "kernels/cpu/dropout.h"
#include "kernels/cpu/skinny.h"
#include "kernels/philox.h"

enum { ROWS = 128, SUM_BLOCK = 64 };

/* Rows are cut in chunks, and everything of rank r runs on the kernels of skinny.h. Scratch of all threads: A and B
 * packed, and one partial gradient of either per chunk, as [k, r] and [m, r] with rows of whole vectors, summed in the
 * order of chunks at the end. A thread's scratch: mask and drop(x) (or a piece of dx) of a chunk, t and dt of a chunk,
 * and the row-independent half of the mask's counters. */
typedef struct plan {
    int64_t rows, k, m, r, chunk, chunks;
    int64_t width;                  /* skinny_row(r) */
    int64_t partial;                /* floats of one chunk's dA and dB */
    int64_t pack_a, pack_b, shared; /* where the packed matrices lie behind the partials; floats of all */
    int64_t thread_part;            /* floats per thread */
    bool drop;
    dropout_row_t *row;
    dropout_t dropout; /* where drop */
} plan_t;

static plan_t plan_of(const op_io_t *io) {
    const lowrank_attr_t *at = io->attr;
    plan_t p = {.rows = io->in[LOWRANK_X].dim[0],
                .k = io->in[LOWRANK_A].dim[1],
                .r = io->in[LOWRANK_A].dim[0],
                .m = io->in[LOWRANK_B].dim[0]};
    p.chunk = cpu_tile(p.rows, ROWS);
    p.chunks = cpu_parts(p.rows, p.chunk);
    p.width = skinny_row(p.r);
    p.partial = p.width * (p.k + p.m);
    p.pack_a = p.chunks * p.partial;
    p.pack_b = p.pack_a + cpu_max(p.k * p.width, p.r * skinny_row(p.k));
    p.shared = p.pack_b + cpu_max(p.m * p.width, p.r * skinny_row(p.m));
    p.shared += p.shared % 2; /* keeps the 64-bit counters aligned */
    p.thread_part =
        2 * ROWS * (p.k + p.width) + 2 * (p.k / 4 + DROPOUT_LOT); /* no smaller for fewer rows: chunks differ */
    p.thread_part += p.thread_part % 2;
    p.drop = at->dropout > 0 && io->step && io->step->training;
    if (!p.drop) return p;
    p.row = dropout_set()->row;
    p.dropout = (dropout_t){.step = io->step->step,
                            .threshold = (int32_t)ceil(at->dropout * 0x1p24),
                            .keep_scale = (float)(1 / (1 - at->dropout))};
    rng_key(io->step->seed, RNG_DROPOUT, p.dropout.key);
    return p;
}

size_t cpu_lowrank_scratch(const op_io_t *io) {
    plan_t p = plan_of(io);
    return cpu_scratch_bytes(p.shared, p.thread_part);
}

/* A thread's scratch, in parts. */
typedef struct part {
    uint64_t *block;     /* [k/4 + DROPOUT_LOT] */
    float *mask, *piece; /* [ROWS, k] */
    float *t, *dt;       /* [ROWS, width] */
} part_t;

static part_t part_of(const op_io_t *io, const plan_t *p) {
    part_t s = {.block = (uint64_t *)(void *)cpu_thread_scratch(io, p->shared, p->thread_part)};
    s.mask = (float *)(s.block + p->k / 4 + DROPOUT_LOT);
    s.piece = s.mask + ROWS * p->k;
    s.t = s.piece + ROWS * p->k;
    s.dt = s.t + ROWS * p->width;
    return s;
}

/* The factors 0 or 1/(1-p) of one row. */
static void mask_row(const op_io_t *io, const plan_t *p, const part_t *s, int64_t n, float *mask) {
    const uint64_t key = ((const uint64_t *)io->in[LOWRANK_KEY].data)[n];
    const int64_t whole = p->k / (4 * DROPOUT_LOT) * DROPOUT_LOT;
    p->row(&p->dropout, key, s->block, whole, mask);
    if (4 * whole == p->k) return;
    float rest[4 * DROPOUT_LOT];
    p->row(&p->dropout, key, s->block + whole, DROPOUT_LOT, rest);
    memcpy(mask + 4 * whole, rest, (size_t)(p->k - 4 * whole) * sizeof *mask);
}

/* The half of the counters that no row knows. */
static void number_blocks(const op_io_t *io, const plan_t *p, const part_t *s) {
    const lowrank_attr_t *at = io->attr;
    for (int64_t g = 0; g < p->k / 4 + DROPOUT_LOT; g++) s->block[g] = lowrank_dropout_index(0, at->site, g);
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

static void forward_chunk(const op_io_t *io, const plan_t *p, int64_t c) {
    const lowrank_attr_t *at = io->attr;
    const float *y = io->in[LOWRANK_Y].data, *scratch = io->scratch;
    float *out = io->out[LOWRANK_OUT].data, *t = io->out[LOWRANK_T].data;
    int64_t first = c * p->chunk, rows = cpu_min(p->chunk, p->rows - first), m = p->m, k = p->k, r = p->r;
    const part_t s = part_of(io, p);
    const float *x = (const float *)io->in[LOWRANK_X].data + first * k;
    if (p->drop) {
        number_blocks(io, p, &s);
        for (int64_t n = 0; n < rows; n++) { /* one row of the mask, which stays in the nearest cache */
            mask_row(io, p, &s, first + n, s.mask);
            multiply(s.piece + n * k, x + n * k, s.mask, k);
        }
        x = s.piece;
    }
    if (out != y) memcpy(out + first * m, y + first * m, (size_t)(rows * m) * sizeof *out);
    const skinny_narrow_t inner = {
        .a = x, .i_step = k, .l_step = 1, .p = scratch + p->pack_a, .c = s.t, .m = rows, .k = k, .r = r, .factor = 1};
    skinny_narrow(&inner);
    for (int64_t n = 0; n < rows; n++) memcpy(t + (first + n) * r, s.t + n * p->width, (size_t)r * sizeof *t);
    const skinny_wide_t outer = {.t = s.t,
                                 .p = scratch + p->pack_b,
                                 .c = out + first * m,
                                 .m = rows,
                                 .n = m,
                                 .r = r,
                                 .factor = (float)at->scale,
                                 .acc = true};
    skinny_wide(&outer);
}

void cpu_lowrank_fwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    float *scratch = io->scratch;
    skinny_pack(io->in[LOWRANK_A].data, p.k, p.r, 1, p.k, scratch + p.pack_a);
    skinny_pack(io->in[LOWRANK_B].data, p.r, p.m, 1, p.r, scratch + p.pack_b);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < p.chunks; c++) forward_chunk(io, &p, c);
}

/* dB of a chunk, as [m, r]. */
static void gradient_b(const op_io_t *io, const plan_t *p, const part_t *s, int64_t first, int64_t rows, float *db) {
    const lowrank_attr_t *at = io->attr;
    const float *t = (const float *)io->out[LOWRANK_T].data + first * p->r;
    skinny_pack(t, rows, p->r, p->r, 1, s->t);
    const skinny_narrow_t g = {.a = (const float *)io->gout.data + first * p->m,
                               .i_step = 1,
                               .l_step = p->m,
                               .p = s->t,
                               .c = db,
                               .m = p->m,
                               .k = rows,
                               .r = p->r,
                               .factor = (float)at->scale};
    skinny_narrow(&g);
}

/* dA of a chunk from dt, as [k, r]. */
static void gradient_a(const op_io_t *io, const plan_t *p, const part_t *s, int64_t first, int64_t rows, float *da) {
    const float *x = (const float *)io->in[LOWRANK_X].data + first * p->k;
    if (p->drop) multiply(s->piece, x, s->mask, rows * p->k);
    const skinny_narrow_t g = {.a = p->drop ? s->piece : x,
                               .i_step = 1,
                               .l_step = p->k,
                               .p = s->dt,
                               .c = da,
                               .m = p->k,
                               .k = rows,
                               .r = p->r,
                               .factor = 1};
    skinny_narrow(&g);
}

static void backward_chunk(const op_io_t *io, const plan_t *p, int64_t c) {
    const lowrank_attr_t *at = io->attr;
    int64_t first = c * p->chunk, rows = cpu_min(p->chunk, p->rows - first), k = p->k, m = p->m, r = p->r;
    float *dx = io->gin[LOWRANK_X].data, *scratch = io->scratch, *da = scratch + c * p->partial;
    const part_t s = part_of(io, p);

    if (io->gin[LOWRANK_B].data) gradient_b(io, p, &s, first, rows, da + p->width * k);
    if (!dx && !io->gin[LOWRANK_A].data) return;
    const skinny_narrow_t inner = {.a = (const float *)io->gout.data + first * m,
                                   .i_step = m,
                                   .l_step = 1,
                                   .p = scratch + p->pack_b,
                                   .c = s.dt,
                                   .m = rows,
                                   .k = m,
                                   .r = r,
                                   .factor = (float)at->scale};
    skinny_narrow(&inner);
    if (p->drop) {
        number_blocks(io, p, &s);
        for (int64_t n = 0; n < rows; n++) mask_row(io, p, &s, first + n, s.mask + n * k);
    }
    if (io->gin[LOWRANK_A].data) gradient_a(io, p, &s, first, rows, da);
    if (!dx) return;
    dx += first * k;
    const skinny_wide_t outer = {.t = s.dt,
                                 .p = scratch + p->pack_a,
                                 .c = p->drop ? s.piece : dx,
                                 .m = rows,
                                 .n = k,
                                 .r = r,
                                 .factor = 1,
                                 .acc = !p->drop && io->acc[LOWRANK_X]};
    skinny_wide(&outer);
    if (p->drop) put_product(dx, io->acc[LOWRANK_X], s.piece, s.mask, rows * k);
}

/* g[i * i_step + j * j_step] = sum over chunks of partial[i][j], in order; i < n, j < r. */
static void sum_partials(const plan_t *p, const float *partial, float *g, bool acc, int64_t n, int64_t i_step,
                         int64_t j_step) {
    if (!g) return;
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < cpu_parts(n, SUM_BLOCK); block++)
        for (int64_t i = block * SUM_BLOCK; i < cpu_min(n, (block + 1) * SUM_BLOCK); i++)
            for (int64_t j = 0; j < p->r; j++) {
                float sum = 0, *to = g + i * i_step + j * j_step;
                for (int64_t c = 0; c < p->chunks; c++) sum += partial[c * p->partial + i * p->width + j];
                *to = acc ? *to + sum : sum;
            }
}

void cpu_lowrank_bwd(const op_io_t *io) {
    const plan_t p = plan_of(io);
    const float *dout = io->gout.data;
    float *dy = io->gin[LOWRANK_Y].data, *scratch = io->scratch;
    if (dy && dy != dout) {
#pragma omp parallel for schedule(static)
        for (int64_t n = 0; n < p.rows; n++)
            for (int64_t i = n * p.m; i < (n + 1) * p.m; i++) dy[i] = io->acc[LOWRANK_Y] ? dy[i] + dout[i] : dout[i];
    }
    if (io->in[LOWRANK_A].data) skinny_pack(io->in[LOWRANK_A].data, p.r, p.k, p.k, 1, scratch + p.pack_a);
    if (io->in[LOWRANK_B].data) skinny_pack(io->in[LOWRANK_B].data, p.m, p.r, p.r, 1, scratch + p.pack_b);
#pragma omp parallel for schedule(static)
    for (int64_t c = 0; c < p.chunks; c++) backward_chunk(io, &p, c);
    sum_partials(&p, scratch, io->gin[LOWRANK_A].data, io->acc[LOWRANK_A], p.k, 1, p.k);
    sum_partials(&p, scratch + p.width * p.k, io->gin[LOWRANK_B].data, io->acc[LOWRANK_B], p.m, p.r, 1);
}
