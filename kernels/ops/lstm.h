/* One direction of one LSTM layer over the rows of x in order (reverse: from the last to the first), as torch.nn.LSTM
 * (Hochreiter & Schmidhuber 1997 with forget gates): (i, f, g, o) = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh, c_t =
 * sigmoid(f) c_{t-1} + sigmoid(i) tanh(g), h_t = sigmoid(o) tanh(c_t), h and c start at 0.
 * Backward through time: dh_t = dy_t + W_hh^T dgates_{t+1}, the weights' gradients from all dgates at the end.
 * in: x [T,d], W_ih [4H,d], W_hh [4H,H], b_ih [4H], b_hh [4H]
 * out: h [T,H], gates [T,4H] after their nonlinearities, c [T,H] */
#pragma once
#include <stdbool.h>
enum { LSTM_X, LSTM_W_IH, LSTM_W_HH, LSTM_B_IH, LSTM_B_HH };
enum { LSTM_H, LSTM_GATES, LSTM_C };
typedef struct lstm_attr {
    bool reverse;
} lstm_attr_t;
