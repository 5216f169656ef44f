#include "kernels/ops/check.h"
#include "kernels/ops/lstm.h"

static status_t check_weights(const view_t *in) {
    const char *op = "lstm";
    const view_t *x = &in[LSTM_X], *hh = &in[LSTM_W_HH];
    int64_t gates = hh->dim[0];
    TRY(check_positive(op, "the number of inputs", x->dim[1]));
    TRY(check_positive(op, "the number of cells", hh->dim[1]));
    TRY(check_dim(op, "W_hh", hh, 0, 4 * hh->dim[1]));
    TRY(check_dim(op, "W_ih", &in[LSTM_W_IH], 0, gates));
    TRY(check_dim(op, "W_ih", &in[LSTM_W_IH], 1, x->dim[1]));
    TRY(check_dim(op, "b_ih", &in[LSTM_B_IH], 0, gates));
    return check_dim(op, "b_hh", &in[LSTM_B_HH], 0, gates);
}

static status_t infer(const void *attr, const view_t *in, view_t *out) {
    (void)attr;
    const char *op = "lstm";
    dtype_t real = in[LSTM_X].dtype;
    TRY(check_real(op, "x", &in[LSTM_X], 2, real));
    TRY(check_real(op, "W_ih", &in[LSTM_W_IH], 2, real));
    TRY(check_real(op, "W_hh", &in[LSTM_W_HH], 2, real));
    TRY(check_real(op, "b_ih", &in[LSTM_B_IH], 1, real));
    TRY(check_real(op, "b_hh", &in[LSTM_B_HH], 1, real));
    TRY(check_weights(in));
    int64_t rows = in[LSTM_X].dim[0], cells = in[LSTM_W_HH].dim[1];
    view_set2(&out[LSTM_H], real, rows, cells);
    view_set2(&out[LSTM_GATES], real, rows, 4 * cells);
    view_set2(&out[LSTM_C], real, rows, cells);
    return ST_OK;
}

/* The gradient of the gates, which every other gradient is made from, goes back through W_hh. */
enum { THROUGH_TIME = NEED_IN(LSTM_W_HH) | NEED_OUT(LSTM_GATES) | NEED_OUT(LSTM_C) };

const op_def_t op_def_lstm = {
    .name = "lstm",
    .n_in = 5,
    .n_out = 3,
    .differentiable = 1u << LSTM_X | 1u << LSTM_W_IH | 1u << LSTM_W_HH | 1u << LSTM_B_IH | 1u << LSTM_B_HH,
    .need = {[LSTM_X] = THROUGH_TIME | NEED_IN(LSTM_W_IH),
             [LSTM_W_IH] = THROUGH_TIME | NEED_IN(LSTM_X),
             [LSTM_W_HH] = THROUGH_TIME | NEED_OUT(LSTM_H),
             [LSTM_B_IH] = THROUGH_TIME,
             [LSTM_B_HH] = THROUGH_TIME},
    .inplace = -1,
    .passthrough = -1,
    .infer = infer,
};
