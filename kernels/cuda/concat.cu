/* Bound by memory: what is read is written once. */
#include "kernels/cuda/columns.cuh"
extern "C" {
#include "kernels/ops/concat.h"
}

void cuda_concat_fwd(const op_io_t *io) {
    const view_t *y = &io->out[0];
    with_real(y->dtype, [&](auto one) {
        using T = decltype(one);
        int64_t first = 0;
        for (int k = CONCAT_A; k <= CONCAT_B; k++) {
            int64_t count = io->in[k].dim[1];
            columns_copy<T>(cuda_stream(io), y->dim[0], count, {(const T *)io->in[k].data, count, 0}, false,
                            {(T *)y->data, y->dim[1], first});
            first += count;
        }
    });
}

void cuda_concat_bwd(const op_io_t *io) {
    const view_t *dy = &io->gout;
    with_real(dy->dtype, [&](auto one) {
        using T = decltype(one);
        int64_t first = 0;
        for (int k = CONCAT_A; k <= CONCAT_B; k++) {
            int64_t count = io->in[k].dim[1];
            if (io->gin[k].data)
                columns_copy<T>(cuda_stream(io), dy->dim[0], count, {(const T *)dy->data, dy->dim[1], first},
                                io->acc[k], {(T *)io->gin[k].data, count, 0});
            first += count;
        }
    });
}
