#include "kernels/ops/concat.h"
#include "kernels/ref/ref.h"

void REF(ref_concat_fwd)(const op_io_t *io) {
    const real_t *a = io->in[CONCAT_A].data, *b = io->in[CONCAT_B].data;
    real_t *y = io->out[0].data;
    int64_t rows = io->out[0].dim[0], p = io->in[CONCAT_A].dim[1], q = io->in[CONCAT_B].dim[1];
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t i = 0; i < p; i++) y[n * (p + q) + i] = a[n * p + i];
        for (int64_t i = 0; i < q; i++) y[n * (p + q) + p + i] = b[n * q + i];
    }
}

void REF(ref_concat_bwd)(const op_io_t *io) {
    const real_t *dy = io->gout.data;
    real_t *da = io->gin[CONCAT_A].data, *db = io->gin[CONCAT_B].data;
    int64_t rows = io->gout.dim[0], p = io->in[CONCAT_A].dim[1], q = io->in[CONCAT_B].dim[1];
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t i = 0; da && i < p; i++) ref_put(&da[n * p + i], io->acc[CONCAT_A], dy[n * (p + q) + i]);
        for (int64_t i = 0; db && i < q; i++) ref_put(&db[n * q + i], io->acc[CONCAT_B], dy[n * (p + q) + p + i]);
    }
}
