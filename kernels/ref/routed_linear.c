#include "kernels/ops/routed_linear.h"
#include "kernels/ref/ref.h"

/* The shapes, and the first row of the block of a sequence's expert. */
typedef struct route {
    const int32_t *cu, *expert;
    int64_t sequences, k, m;
} route_t;

static route_t route_of(const op_io_t *io, const routed_linear_attr_t *at) {
    const view_t *w = &io->in[ROUTED_LINEAR_W], *x = &io->in[ROUTED_LINEAR_X];
    return (route_t){.cu = io->in[ROUTED_LINEAR_CU].data,
                     .expert = io->in[ROUTED_LINEAR_EXPERT].data,
                     .sequences = io->in[ROUTED_LINEAR_EXPERT].dim[0],
                     .k = x->dim[1],
                     .m = w->dim[0] / at->experts};
}

void REF(ref_routed_linear_fwd)(const op_io_t *io) {
    const route_t r = route_of(io, io->attr);
    const real_t *x = io->in[ROUTED_LINEAR_X].data, *w = io->in[ROUTED_LINEAR_W].data,
                 *b = io->in[ROUTED_LINEAR_B].data;
    real_t *y = io->out[0].data;
    for (int64_t s = 0; s < r.sequences; s++)
        for (int64_t n = r.cu[s]; n < r.cu[s + 1]; n++)
            for (int64_t j = 0; j < r.m; j++) {
                int64_t row = r.expert[s] * r.m + j;
                double sum = b ? b[row] : 0;
                for (int64_t i = 0; i < r.k; i++) sum += (double)x[n * r.k + i] * w[row * r.k + i];
                y[n * r.m + j] = (real_t)sum;
            }
}

static void input_gradient(const op_io_t *io, const route_t *r) {
    const real_t *w = io->in[ROUTED_LINEAR_W].data, *dy = io->gout.data;
    real_t *dx = io->gin[ROUTED_LINEAR_X].data;
    for (int64_t s = 0; s < r->sequences; s++)
        for (int64_t n = r->cu[s]; n < r->cu[s + 1]; n++)
            for (int64_t i = 0; i < r->k; i++) {
                double sum = 0;
                for (int64_t j = 0; j < r->m; j++)
                    sum += (double)dy[n * r->m + j] * w[(r->expert[s] * r->m + j) * r->k + i];
                ref_put(&dx[n * r->k + i], io->acc[ROUTED_LINEAR_X], sum);
            }
}

/* Row j of expert e: the bias's gradient for x NULL, else that of weight column i. */
static double sum_over_rows(const op_io_t *io, const route_t *r, int64_t row, const real_t *x, int64_t i) {
    const real_t *dy = io->gout.data;
    double sum = 0;
    for (int64_t s = 0; s < r->sequences; s++)
        for (int64_t n = r->cu[s]; n < r->cu[s + 1] && r->expert[s] == row / r->m; n++)
            sum += (double)dy[n * r->m + row % r->m] * (x ? (double)x[n * r->k + i] : 1.0);
    return sum;
}

void REF(ref_routed_linear_bwd)(const op_io_t *io) {
    const route_t r = route_of(io, io->attr);
    real_t *dw = io->gin[ROUTED_LINEAR_W].data, *db = io->gin[ROUTED_LINEAR_B].data;
    int64_t rows = io->in[ROUTED_LINEAR_W].dim[0];
    if (io->gin[ROUTED_LINEAR_X].data) input_gradient(io, &r);
    for (int64_t row = 0; dw && row < rows; row++)
        for (int64_t i = 0; i < r.k; i++)
            ref_put(&dw[row * r.k + i], io->acc[ROUTED_LINEAR_W],
                    sum_over_rows(io, &r, row, io->in[ROUTED_LINEAR_X].data, i));
    for (int64_t row = 0; db && row < rows; row++)
        ref_put(&db[row], io->acc[ROUTED_LINEAR_B], sum_over_rows(io, &r, row, NULL, 0));
}
