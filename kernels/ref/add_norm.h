/* A sum and its norm are `add` and the norm, one after the other: the specification. `norm`: the norm's kernel. *local*
 */
#pragma once
#include "kernels/ops/add_norm.h"
#include "kernels/ref/ref.h"

static inline void add_norm_forward(const op_io_t *io, op_fn norm) {
    const op_io_t inner = add_norm_inner(io);
    if (io->in[ADD_NORM_A].data) REF(ref_add_fwd)(io);
    norm(&inner);
}

/* The gradient of s is summed in scratch [N,d]. */
static inline void add_norm_backward(const op_io_t *io, op_fn norm) {
    op_io_t inner = add_norm_inner(io), sum = *io;
    if (io->gout1.data && (io->gin[ADD_NORM_A].data || io->gin[ADD_NORM_B].data)) {
        if (io->gout.data) memcpy(io->scratch, io->gout.data, view_bytes(&io->gout));
        inner.gin[0].data = sum.gout.data = io->scratch;
        inner.acc[0] = io->gout.data != NULL;
    }
    norm(&inner);
    REF(ref_add_bwd)(&sum);
}

static inline size_t add_norm_scratch(const op_io_t *io) {
    return view_bytes(&io->in[ADD_NORM_A]);
}
