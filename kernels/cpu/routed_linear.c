#include "kernels/ops/routed_linear.h"
#include "kernels/cpu/product.h"

enum { ROWS = 128, WEIGHT_ROWS = 64 };

/* Neighbouring sequences of one expert: rows first .. first+rows. */
typedef struct stretch {
    int64_t first, rows, expert, next; /* next: the sequence behind it */
} stretch_t;

/* The stretch from sequence s on; false when only empty sequences are left. */
static bool find_stretch(const op_io_t *io, int64_t s, stretch_t *out) {
    const int32_t *cu = io->in[ROUTED_LINEAR_CU].data, *expert = io->in[ROUTED_LINEAR_EXPERT].data;
    int64_t n = io->in[ROUTED_LINEAR_EXPERT].dim[0];
    while (s < n && cu[s] == cu[s + 1]) s++;
    if (s == n) return false;
    *out = (stretch_t){.first = cu[s], .expert = expert[s]};
    for (; s < n && (cu[s] == cu[s + 1] || expert[s] == out->expert); s++) out->rows = cu[s + 1] - out->first;
    out->next = s;
    return true;
}

static int64_t outputs(const op_io_t *io) {
    const routed_linear_attr_t *at = io->attr;
    return io->in[ROUTED_LINEAR_W].dim[0] / at->experts;
}

size_t cpu_routed_linear_scratch(const op_io_t *io) {
    return cpu_product_scratch(io->in[ROUTED_LINEAR_X].dim[1]);
}

void cpu_routed_linear_fwd(const op_io_t *io) {
    int64_t k = io->in[ROUTED_LINEAR_X].dim[1], m = outputs(io);
    const float *x = io->in[ROUTED_LINEAR_X].data, *w = io->in[ROUTED_LINEAR_W].data, *b = io->in[ROUTED_LINEAR_B].data;
    stretch_t t = {0};
    while (find_stretch(io, t.next, &t)) {
        const cpu_product_t y = {.ta = 'N',
                                 .tb = 'T',
                                 .a = x + t.first * k,
                                 .lda = k,
                                 .b = w + t.expert * m * k,
                                 .ldb = k,
                                 .c = (float *)io->out[0].data + t.first * m,
                                 .ldc = m,
                                 .bias = b ? b + t.expert * m : NULL,
                                 .rows = t.rows,
                                 .cols = m,
                                 .inner = k,
                                 .scratch = io->scratch};
        cpu_product(&y, ROWS);
    }
}

static void input_gradient(const op_io_t *io, const stretch_t *t, int64_t m, int64_t k) {
    const cpu_product_t dx = {.ta = 'N',
                              .tb = 'N',
                              .a = (const float *)io->gout.data + t->first * m,
                              .lda = m,
                              .b = (const float *)io->in[ROUTED_LINEAR_W].data + t->expert * m * k,
                              .ldb = k,
                              .c = (float *)io->gin[ROUTED_LINEAR_X].data + t->first * k,
                              .ldc = k,
                              .rows = t->rows,
                              .cols = k,
                              .inner = m,
                              .acc = io->acc[ROUTED_LINEAR_X]};
    cpu_product(&dx, ROWS);
}

static void weight_gradient(const op_io_t *io, const stretch_t *t, int64_t m, int64_t k, bool acc) {
    const cpu_product_t dw = {.ta = 'T',
                              .tb = 'N',
                              .a = (const float *)io->gout.data + t->first * m,
                              .lda = m,
                              .b = (const float *)io->in[ROUTED_LINEAR_X].data + t->first * k,
                              .ldb = k,
                              .c = (float *)io->gin[ROUTED_LINEAR_W].data + t->expert * m * k,
                              .ldc = k,
                              .rows = m,
                              .cols = k,
                              .inner = t->rows,
                              .acc = acc};
    cpu_product(&dw, WEIGHT_ROWS);
}

/* Whether an earlier stretch has the expert of the one that ends before sequence `next`. */
static bool seen_before(const op_io_t *io, const stretch_t *t) {
    stretch_t earlier = {0};
    while (find_stretch(io, earlier.next, &earlier) && earlier.first < t->first)
        if (earlier.expert == t->expert) return true;
    return false;
}

/* Blocks of experts that no row takes are cleared; the others are written by their first stretch. */
static void clear_unused(const op_io_t *io, float *grad, int64_t block) {
    const routed_linear_attr_t *at = io->attr;
    for (int64_t e = 0; e < at->experts; e++) {
        bool used = false;
        stretch_t t = {0};
        while (!used && find_stretch(io, t.next, &t)) used = t.expert == e;
        if (!used) memset(grad + e * block, 0, (size_t)block * sizeof *grad);
    }
}

void cpu_routed_linear_bwd(const op_io_t *io) {
    int64_t m = io->gout.dim[1], k = io->in[ROUTED_LINEAR_W].dim[1];
    float *dx = io->gin[ROUTED_LINEAR_X].data, *dw = io->gin[ROUTED_LINEAR_W].data, *db = io->gin[ROUTED_LINEAR_B].data;
    if (dw && !io->acc[ROUTED_LINEAR_W]) clear_unused(io, dw, m * k);
    if (db && !io->acc[ROUTED_LINEAR_B]) clear_unused(io, db, m);
    stretch_t t = {0};
    while (find_stretch(io, t.next, &t)) {
        bool more = seen_before(io, &t);
        if (dx) input_gradient(io, &t, m, k);
        if (dw) weight_gradient(io, &t, m, k, more || io->acc[ROUTED_LINEAR_W]);
        if (db)
            cpu_column_sums((const float *)io->gout.data + t.first * m, t.rows, m, more || io->acc[ROUTED_LINEAR_B],
                            db + t.expert * m);
    }
}
