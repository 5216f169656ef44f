#include "kernels/ops/splice.h"
#include "kernels/cpu/rows.h"

static cpu_rows_t rows_of(const op_io_t *io) {
    const splice_attr_t *at = io->attr;
    const view_t *table = &io->in[SPLICE_T], *index = &io->in[SPLICE_INDEX];
    return (cpu_rows_t){.index = index->data,
                        .n = index->dim[0],
                        .first = at->first,
                        .count = at->count,
                        .d = at->width,
                        .width = table->dim[1],
                        .col = at->col};
}

void cpu_splice_fwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    const float *x = io->in[SPLICE_X].data, *table = io->in[SPLICE_T].data;
    float *y = io->out[0].data;
    size_t bytes = (size_t)rows.d * sizeof *y;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows.n; n++) {
        int64_t r = cpu_rows_at(&rows, n);
        float *to = y + n * rows.d;
        if (r >= 0)
            memcpy(to, table + r * rows.width + rows.col, bytes);
        else if (!x)
            memset(to, 0, bytes);
        else if (x != y)
            memcpy(to, x + n * rows.d, bytes);
    }
}

static void input_gradient(const cpu_rows_t *rows, const float *dy, bool acc, float *dx) {
    size_t bytes = (size_t)rows->d * sizeof *dx;
#pragma omp parallel for schedule(static)
    for (int64_t n = 0; n < rows->n; n++) {
        bool spliced = cpu_rows_at(rows, n) >= 0;
        float *to = dx + n * rows->d;
        const float *from = dy + n * rows->d;
        if (acc && !spliced)
            for (int64_t i = 0; i < rows->d; i++) to[i] += from[i];
        else if (!acc && spliced)
            memset(to, 0, bytes);
        else if (!acc && dx != dy)
            memcpy(to, from, bytes);
    }
}

/* The table first: dx may be dy itself. */
void cpu_splice_bwd(const op_io_t *io) {
    const cpu_rows_t rows = rows_of(io);
    const float *dy = io->gout.data;
    float *dx = io->gin[SPLICE_X].data, *dt = io->gin[SPLICE_T].data;
    if (dt) cpu_rows_put(&rows, dy, io->acc[SPLICE_T], io->in[SPLICE_T].dim[0], dt);
    if (dx) input_gradient(&rows, dy, io->acc[SPLICE_X], dx);
}
