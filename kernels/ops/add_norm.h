/* What add_rmsnorm and add_layernorm have in common: inputs a, b and then the norm's own parameters; outputs s = a + b
 * and then the norm's. So the sum within is `add` on the same io, and the norm within is made here. A forward without
 * the data of a and b makes y anew from s (op_def_t.remake). *local* */
#pragma once
#include "kernels/op.h"

enum { ADD_NORM_A, ADD_NORM_B };
enum { ADD_NORM_S };

/* The norm of s. The gradient of its x is left out, for the caller to say where it goes. Where no gradient arrives at y
 * the norm has no rows to go back through, and what would be added to its parameters' gradients is not wanted. */
static inline op_io_t add_norm_inner(const op_io_t *io) {
    op_io_t norm = *io;
    for (int k = 1; k + 1 < OP_MAX_IN; k++) {
        norm.in[k] = io->in[k + 1];
        norm.gin[k] = io->gin[k + 1];
        norm.acc[k] = io->acc[k + 1];
        if (!io->gout1.data && norm.acc[k]) norm.gin[k].data = NULL;
    }
    for (int k = 0; k + 1 < OP_MAX_OUT; k++) norm.out[k] = io->out[k + 1];
    norm.in[0] = io->out[ADD_NORM_S];
    norm.gin[0] = io->out[ADD_NORM_S];
    norm.gin[0].data = NULL;
    norm.acc[0] = false;
    norm.gout = io->gout1;
    if (!io->gout1.data) norm.gout.dim[0] = 0;
    return norm;
}
