#include "kernels/ops/linear.h"
#include "kernels/ref/ref.h"

void REF(ref_linear_fwd)(const op_io_t *io) {
    const real_t *x = io->in[LINEAR_X].data, *w = io->in[LINEAR_W].data, *b = io->in[LINEAR_B].data;
    real_t *y = io->out[0].data;
    int64_t rows = io->in[LINEAR_X].dim[0], k = io->in[LINEAR_X].dim[1], m = io->in[LINEAR_W].dim[0];
    for (int64_t n = 0; n < rows; n++)
        for (int64_t j = 0; j < m; j++) {
            double sum = b ? b[j] : 0;
            for (int64_t i = 0; i < k; i++) sum += (double)x[n * k + i] * w[j * k + i];
            y[n * m + j] = (real_t)sum;
        }
}

void REF(ref_linear_bwd)(const op_io_t *io) {
    const real_t *x = io->in[LINEAR_X].data, *w = io->in[LINEAR_W].data, *dy = io->gout.data;
    real_t *dx = io->gin[LINEAR_X].data, *dw = io->gin[LINEAR_W].data, *db = io->gin[LINEAR_B].data;
    int64_t rows = io->in[LINEAR_X].dim[0], k = io->in[LINEAR_X].dim[1], m = io->in[LINEAR_W].dim[0];
    for (int64_t n = 0; dx && n < rows; n++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t j = 0; j < m; j++) sum += (double)dy[n * m + j] * w[j * k + i];
            ref_put(&dx[n * k + i], io->acc[LINEAR_X], sum);
        }
    for (int64_t j = 0; dw && j < m; j++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t n = 0; n < rows; n++) sum += (double)dy[n * m + j] * x[n * k + i];
            ref_put(&dw[j * k + i], io->acc[LINEAR_W], sum);
        }
    for (int64_t j = 0; db && j < m; j++) {
        double sum = 0;
        for (int64_t n = 0; n < rows; n++) sum += dy[n * m + j];
        ref_put(&db[j], io->acc[LINEAR_B], sum);
    }
}
