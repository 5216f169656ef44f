#include "kernels/ops/add.h"
#include "kernels/ref/ref.h"

void REF(ref_add_fwd)(const op_io_t *io) {
    const real_t *a = io->in[ADD_A].data, *b = io->in[ADD_B].data;
    real_t *y = io->out[0].data;
    for (int64_t i = 0, n = view_count(&io->out[0]); i < n; i++) y[i] = a[i] + b[i];
}

void REF(ref_add_bwd)(const op_io_t *io) {
    const real_t *dy = io->gout.data;
    for (int k = ADD_A; k <= ADD_B; k++) {
        real_t *dx = io->gin[k].data;
        if (!dx || dx == dy) continue;
        for (int64_t i = 0, n = view_count(&io->gout); i < n; i++) ref_put(&dx[i], io->acc[k], dy[i]);
    }
}
