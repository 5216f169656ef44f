#include "kernels/ref/add_norm.h"

void REF(ref_add_rmsnorm_fwd)(const op_io_t *io) {
    add_norm_forward(io, REF(ref_rmsnorm_fwd));
}

void REF(ref_add_rmsnorm_bwd)(const op_io_t *io) {
    add_norm_backward(io, REF(ref_rmsnorm_bwd));
}

size_t REF(ref_add_rmsnorm_scratch)(const op_io_t *io) {
    return add_norm_scratch(io);
}
