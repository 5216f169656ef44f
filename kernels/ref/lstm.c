#include "kernels/ops/lstm.h"
#include "kernels/ref/ref.h"

typedef struct sizes {
    int64_t rows, inputs, cells, gates;
    bool reverse;
} sizes_t;

static sizes_t sizes_of(const op_io_t *io) {
    const lstm_attr_t *at = io->attr;
    int64_t cells = io->in[LSTM_W_HH].dim[1];
    return (sizes_t){io->in[LSTM_X].dim[0], io->in[LSTM_X].dim[1], cells, 4 * cells, at->reverse};
}

/* The row visited in step s, and the row before it (-1: none). */
static int64_t row_at(const sizes_t *z, int64_t s) {
    return z->reverse ? z->rows - 1 - s : s;
}
static int64_t row_before(const sizes_t *z, int64_t s) {
    return s > 0 ? row_at(z, s - 1) : -1;
}

static double sigmoid(double v) {
    return 1 / (1 + exp(-v));
}

/* What goes into gate j's nonlinearity at row t. */
static double gate_sum(const op_io_t *io, const sizes_t *z, int64_t t, int64_t before, int64_t j) {
    const real_t *x = io->in[LSTM_X].data, *w_ih = io->in[LSTM_W_IH].data, *w_hh = io->in[LSTM_W_HH].data;
    const real_t *b_ih = io->in[LSTM_B_IH].data, *b_hh = io->in[LSTM_B_HH].data, *h = io->out[LSTM_H].data;
    double sum = (double)b_ih[j] + b_hh[j];
    for (int64_t i = 0; i < z->inputs; i++) sum += (double)w_ih[j * z->inputs + i] * x[t * z->inputs + i];
    for (int64_t i = 0; before >= 0 && i < z->cells; i++)
        sum += (double)w_hh[j * z->cells + i] * h[before * z->cells + i];
    return sum;
}

void REF(ref_lstm_fwd)(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    real_t *h = io->out[LSTM_H].data, *gates = io->out[LSTM_GATES].data, *c = io->out[LSTM_C].data;
    for (int64_t s = 0; s < z.rows; s++) {
        int64_t t = row_at(&z, s), before = row_before(&z, s);
        real_t *gate = gates + t * z.gates;
        for (int64_t j = 0; j < z.gates; j++) {
            double v = gate_sum(io, &z, t, before, j);
            gate[j] = (real_t)(j / z.cells == 2 ? tanh(v) : sigmoid(v)); /* i, f, g, o */
        }
        for (int64_t k = 0; k < z.cells; k++) {
            double in = gate[k], forget = gate[z.cells + k], fresh = gate[2 * z.cells + k], out = gate[3 * z.cells + k];
            double cell = in * fresh + (before >= 0 ? forget * c[before * z.cells + k] : 0);
            c[t * z.cells + k] = (real_t)cell;
            h[t * z.cells + k] = (real_t)(out * tanh(cell));
        }
    }
}

/* Scratch: dgates [T,4H], then dc [H], the gradient that reaches a cell from the step after. */
size_t REF(ref_lstm_scratch)(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    return (size_t)(z.rows * z.gates + z.cells) * sizeof(double);
}

/* Gradients of the gates' arguments at row t and of the cell before it; dh of this row is complete. */
static void cell_gradient(const op_io_t *io, const sizes_t *z, int64_t t, int64_t before, int64_t k, double dh,
                          double *dgate, double *dc) {
    const real_t *gate = (const real_t *)io->out[LSTM_GATES].data + t * z->gates, *c = io->out[LSTM_C].data;
    int64_t n = z->cells;
    double in = gate[k], forget = gate[n + k], fresh = gate[2 * n + k], out = gate[3 * n + k];
    double squashed = tanh(c[t * n + k]), dcell = dc[k] + dh * out * (1 - squashed * squashed);
    dgate[k] = dcell * fresh * in * (1 - in);
    dgate[n + k] = before >= 0 ? dcell * c[before * n + k] * forget * (1 - forget) : 0;
    dgate[2 * n + k] = dcell * in * (1 - fresh * fresh);
    dgate[3 * n + k] = dh * squashed * out * (1 - out);
    dc[k] = dcell * forget;
}

static void through_time(const op_io_t *io, const sizes_t *z, double *dgates) {
    const real_t *dy = io->gout.data, *w_hh = io->in[LSTM_W_HH].data;
    double *dc = dgates + z->rows * z->gates;
    for (int64_t k = 0; k < z->cells; k++) dc[k] = 0;
    for (int64_t s = z->rows - 1; s >= 0; s--) {
        int64_t t = row_at(z, s);
        const double *after = s + 1 < z->rows ? dgates + row_at(z, s + 1) * z->gates : NULL;
        for (int64_t k = 0; k < z->cells; k++) {
            double dh = dy[t * z->cells + k];
            for (int64_t j = 0; after && j < z->gates; j++) dh += after[j] * w_hh[j * z->cells + k];
            cell_gradient(io, z, t, row_before(z, s), k, dh, dgates + t * z->gates, dc);
        }
    }
}

static void weight_gradients(const op_io_t *io, const sizes_t *z, const double *dgates) {
    const real_t *x = io->in[LSTM_X].data, *h = io->out[LSTM_H].data;
    real_t *dw_ih = io->gin[LSTM_W_IH].data, *dw_hh = io->gin[LSTM_W_HH].data;
    for (int64_t j = 0; dw_ih && j < z->gates; j++)
        for (int64_t i = 0; i < z->inputs; i++) {
            double sum = 0;
            for (int64_t s = 0; s < z->rows; s++)
                sum += dgates[row_at(z, s) * z->gates + j] * x[row_at(z, s) * z->inputs + i];
            ref_put(&dw_ih[j * z->inputs + i], io->acc[LSTM_W_IH], sum);
        }
    for (int64_t j = 0; dw_hh && j < z->gates; j++)
        for (int64_t i = 0; i < z->cells; i++) {
            double sum = 0;
            for (int64_t s = 1; s < z->rows; s++)
                sum += dgates[row_at(z, s) * z->gates + j] * h[row_before(z, s) * z->cells + i];
            ref_put(&dw_hh[j * z->cells + i], io->acc[LSTM_W_HH], sum);
        }
}

void REF(ref_lstm_bwd)(const op_io_t *io) {
    const sizes_t z = sizes_of(io);
    const real_t *w_ih = io->in[LSTM_W_IH].data;
    real_t *dx = io->gin[LSTM_X].data;
    double *dgates = io->scratch;
    through_time(io, &z, dgates);
    weight_gradients(io, &z, dgates);
    for (int b = LSTM_B_IH; b <= LSTM_B_HH; b++) {
        real_t *db = io->gin[b].data;
        for (int64_t j = 0; db && j < z.gates; j++) {
            double sum = 0;
            for (int64_t s = 0; s < z.rows; s++) sum += dgates[row_at(&z, s) * z.gates + j];
            ref_put(&db[j], io->acc[b], sum);
        }
    }
    for (int64_t t = 0; dx && t < z.rows; t++)
        for (int64_t i = 0; i < z.inputs; i++) {
            double sum = 0;
            for (int64_t j = 0; j < z.gates; j++) sum += dgates[t * z.gates + j] * w_ih[j * z.inputs + i];
            ref_put(&dx[t * z.inputs + i], io->acc[LSTM_X], sum);
        }
}
