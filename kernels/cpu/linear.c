#include "kernels/ops/linear.h"
#include "kernels/cpu/product.h"

enum { ROWS = 128, WEIGHT_ROWS = 64 };

size_t cpu_linear_scratch(const op_io_t *io) {
    return cpu_product_scratch(io->in[LINEAR_X].dim[1]);
}

void cpu_linear_fwd(const op_io_t *io) {
    int64_t rows = io->in[LINEAR_X].dim[0], k = io->in[LINEAR_X].dim[1], m = io->in[LINEAR_W].dim[0];
    const cpu_product_t y = {.ta = 'N',
                             .tb = 'T',
                             .a = io->in[LINEAR_X].data,
                             .lda = k,
                             .b = io->in[LINEAR_W].data,
                             .ldb = k,
                             .c = io->out[0].data,
                             .ldc = m,
                             .bias = io->in[LINEAR_B].data,
                             .rows = rows,
                             .cols = m,
                             .inner = k,
                             .scratch = io->scratch};
    cpu_product(&y, ROWS);
}

void cpu_linear_bwd(const op_io_t *io) {
    int64_t rows = io->gout.dim[0], m = io->gout.dim[1], k = io->in[LINEAR_W].dim[1];
    cpu_product_t p = {.ta = 'N',
                       .tb = 'N',
                       .a = io->gout.data,
                       .lda = m,
                       .b = io->in[LINEAR_W].data,
                       .ldb = k,
                       .c = io->gin[LINEAR_X].data,
                       .ldc = k,
                       .rows = rows,
                       .cols = k,
                       .inner = m,
                       .acc = io->acc[LINEAR_X]};
    if (p.c) cpu_product(&p, ROWS);
    p = (cpu_product_t){.ta = 'T',
                        .tb = 'N',
                        .a = io->gout.data,
                        .lda = m,
                        .b = io->in[LINEAR_X].data,
                        .ldb = k,
                        .c = io->gin[LINEAR_W].data,
                        .ldc = k,
                        .rows = m,
                        .cols = k,
                        .inner = rows,
                        .acc = io->acc[LINEAR_W]};
    if (p.c) cpu_product(&p, WEIGHT_ROWS);
    if (io->gin[LINEAR_B].data) cpu_column_sums(io->gout.data, rows, m, io->acc[LINEAR_B], io->gin[LINEAR_B].data);
}
