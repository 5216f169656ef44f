#include "kernels/ref/add_norm.h"

void REF(ref_add_layernorm_fwd)(const op_io_t *io) {
    add_norm_forward(io, REF(ref_layernorm_fwd));
}

void REF(ref_add_layernorm_bwd)(const op_io_t *io) {
    add_norm_backward(io, REF(ref_layernorm_bwd));
}

size_t REF(ref_add_layernorm_scratch)(const op_io_t *io) {
    return add_norm_scratch(io);
}
