#include "kernels/ops/lstm.h"
#include <math.h>
#include "kernels/cpu/product.h"
#include "kernels/cpu/vecmath.h"

/* What does not run through time is a matrix product over all rows; the rest walks the rows with one barrier a step,
 * the cells of a step dealt in tiles. */
enum { PRODUCT_ROWS = 128, WEIGHT_ROWS = 64, FORWARD_CELLS = 16, BACKWARD_CELLS = 64 };

typedef struct sizes {
    int64_t rows, inputs, cells, gates;
    bool reverse;
} sizes_t;

static sizes_t sizes_of(const op_io_t *io) {
    const lstm_attr_t *at = io->attr;
    int64_t cells = io->in[LSTM_W_HH].dim[1];
    return (sizes_t){io->in[LSTM_X].dim[0], io->in[LSTM_X].dim[1], cells, 4 * cells, at->reverse};
}

/* The row visited in step s. */
static int64_t row_at(const sizes_t *z, int64_t s) {
    return z->reverse ? z->rows - 1 - s : s;
}

GRAFT_CLONES static float lstm_dot(const float *a, const float *b, int64_t n) {
    return vec_dot(a, b, n);
}

GRAFT_CLONES static void lstm_add_scaled(float *y, const float *x, float scale, int64_t n) {
    for (int64_t i = 0; i < n; i++) y[i] += scale * x[i];
}

/* Cell k at row t: gates hold W_ih x + b_ih and become gates after their nonlinearities. h_before and c_before are
 * NULL in the first step. */
static void cell_forward(const op_io_t *io, const sizes_t *z, int64_t t, int64_t k, const float *h_before,
                         const float *c_before) {
    const float *w = io->in[LSTM_W_HH].data, *bias = io->in[LSTM_B_HH].data;
    float *gate = (float *)io->out[LSTM_GATES].data + t * z->gates, v[4];
    for (int g = 0; g < 4; g++) {
        int64_t j = g * z->cells + k;
        v[g] = gate[j] + bias[j] + (h_before ? lstm_dot(w + j * z->cells, h_before, z->cells) : 0);
        v[g] = g == 2 ? tanhf(v[g]) : vec_sigmoid(v[g]); /* i, f, g, o */
        gate[j] = v[g];
    }
    float c = v[0] * v[2] + (c_before ? v[1] * c_before[k] : 0);
    ((float *)io->out[LSTM_C].data)[t * z->cells + k] = c;
    ((float *)io->out[LSTM_H].data)[t * z->cells + k] = v[3] * tanhf(c);
}

void cpu_lstm_fwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    const float *h = io->out[LSTM_H].data, *c = io->out[LSTM_C].data;
    const cpu_product_t from_input = {.ta = 'N',
                                      .tb = 'T',
                                      .a = io->in[LSTM_X].data,
                                      .lda = z.inputs,
                                      .b = io->in[LSTM_W_IH].data,
                                      .ldb = z.inputs,
                                      .c = io->out[LSTM_GATES].data,
                                      .ldc = z.gates,
                                      .bias = io->in[LSTM_B_IH].data,
                                      .rows = z.rows,
                                      .cols = z.gates,
                                      .inner = z.inputs,
                                      .scratch = io->scratch};
    cpu_product(&from_input, PRODUCT_ROWS);
#pragma omp parallel
    for (int64_t s = 0; s < z.rows; s++) {
        int64_t t = row_at(&z, s), before = s > 0 ? row_at(&z, s - 1) * z.cells : 0;
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < cpu_parts(z.cells, FORWARD_CELLS); tile++)
            for (int64_t k = tile * FORWARD_CELLS; k < cpu_min(z.cells, (tile + 1) * FORWARD_CELLS); k++)
                cell_forward(io, &z, t, k, s > 0 ? h + before : NULL, s > 0 ? c + before : NULL);
    }
}

/* Scratch: of the forward pass the product's, of backward the gradients of the gates' arguments [T,4H], then that of
 * the cells [H]. */
size_t cpu_lstm_scratch(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    size_t back = sizeof(float) * (size_t)(z.rows * z.gates + z.cells), forward = cpu_product_scratch(z.inputs);
    return back > forward ? back : forward;
}

/* Gradients at row t of cell k: of the gates' arguments, and in dc of the cell before. */
static void cell_backward(const op_io_t *io, const sizes_t *z, int64_t t, int64_t k, const float *c_before, float dh,
                          float *dgate, float *dc) {
    const float *gate = (const float *)io->out[LSTM_GATES].data + t * z->gates, *c = io->out[LSTM_C].data;
    int64_t n = z->cells;
    float in = gate[k], forget = gate[n + k], fresh = gate[2 * n + k], out = gate[3 * n + k];
    float squashed = tanhf(c[t * n + k]), dcell = dc[k] + dh * out * ((1.0f - squashed) * (1.0f + squashed));
    dgate[k] = dcell * fresh * (in * (1.0f - in));
    dgate[n + k] = c_before ? dcell * c_before[k] * (forget * (1.0f - forget)) : 0;
    dgate[2 * n + k] = dcell * in * ((1.0f - fresh) * (1.0f + fresh));
    dgate[3 * n + k] = dh * squashed * (out * (1.0f - out));
    dc[k] = dcell * forget;
}

/* Cells [first, first + count) of row t; after: the gates' gradient of the step after, NULL in the last. */
static void tile_backward(const op_io_t *io, const sizes_t *z, int64_t t, int64_t first, int64_t count,
                          const float *after, const float *c_before, float *dgate, float *dc) {
    const float *dy = (const float *)io->gout.data + t * z->cells, *w = io->in[LSTM_W_HH].data;
    float dh[BACKWARD_CELLS];
    memcpy(dh, dy + first, (size_t)count * sizeof *dh);
    for (int64_t j = 0; after && j < z->gates; j++) lstm_add_scaled(dh, w + j * z->cells + first, after[j], count);
    for (int64_t k = 0; k < count; k++) cell_backward(io, z, t, first + k, c_before, dh[k], dgate, dc);
}

static void through_time(const op_io_t *io, const sizes_t *z, float *dgates) {
    const float *c = io->out[LSTM_C].data;
    float *dc = dgates + z->rows * z->gates;
    memset(dc, 0, (size_t)z->cells * sizeof *dc);
#pragma omp parallel
    for (int64_t s = z->rows - 1; s >= 0; s--) {
        int64_t t = row_at(z, s);
        const float *after = s + 1 < z->rows ? dgates + row_at(z, s + 1) * z->gates : NULL;
        const float *before = s > 0 ? c + row_at(z, s - 1) * z->cells : NULL;
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < cpu_parts(z->cells, BACKWARD_CELLS); tile++) {
            int64_t first = tile * BACKWARD_CELLS, count = cpu_min(BACKWARD_CELLS, z->cells - first);
            tile_backward(io, z, t, first, count, after, before, dgates + t * z->gates, dc);
        }
    }
}

/* dW [4H,k] = dgates^T x over `rows` rows. */
static void weight_gradient(const sizes_t *z, const float *dgates, const float *x, int64_t rows, int64_t k, bool acc,
                            float *dw) {
    const cpu_product_t p = {.ta = 'T',
                             .tb = 'N',
                             .a = dgates,
                             .lda = z->gates,
                             .b = x,
                             .ldb = k,
                             .c = dw,
                             .ldc = k,
                             .rows = z->gates,
                             .cols = k,
                             .inner = rows,
                             .acc = acc};
    cpu_product(&p, WEIGHT_ROWS);
}

static void input_gradient(const op_io_t *io, const sizes_t *z, const float *dgates) {
    const cpu_product_t p = {.ta = 'N',
                             .tb = 'N',
                             .a = dgates,
                             .lda = z->gates,
                             .b = io->in[LSTM_W_IH].data,
                             .ldb = z->inputs,
                             .c = io->gin[LSTM_X].data,
                             .ldc = z->inputs,
                             .rows = z->rows,
                             .cols = z->inputs,
                             .inner = z->gates,
                             .acc = io->acc[LSTM_X]};
    cpu_product(&p, PRODUCT_ROWS);
}

void cpu_lstm_bwd(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    float *dgates = io->scratch;
    through_time(io, &z, dgates);
    if (io->gin[LSTM_X].data) input_gradient(io, &z, dgates);
    if (io->gin[LSTM_W_IH].data)
        weight_gradient(&z, dgates, io->in[LSTM_X].data, z.rows, z.inputs, io->acc[LSTM_W_IH], io->gin[LSTM_W_IH].data);
    if (io->gin[LSTM_W_HH].data) { /* row t with the h of the row visited before it: one row on, or one row back */
        int64_t pairs = cpu_max(z.rows - 1, 0);
        const float *h = (const float *)io->out[LSTM_H].data + (z.reverse ? z.cells : 0);
        const float *d = dgates + (z.reverse ? 0 : z.gates);
        weight_gradient(&z, d, h, pairs, z.cells, io->acc[LSTM_W_HH], io->gin[LSTM_W_HH].data);
    }
    for (int b = LSTM_B_IH; b <= LSTM_B_HH; b++)
        if (io->gin[b].data) cpu_column_sums(dgates, z.rows, z.gates, io->acc[b], io->gin[b].data);
}
