#include "kernels/cpu/add_norm.h"

/* y = a + b; y may be a. */
GRAFT_CLONES static void add_norm_row(float *y, const float *a, const float *b, int64_t d) {
    for (int64_t i = 0; i < d; i++) y[i] = a[i] + b[i];
}

float *add_norm_sum(const op_io_t *io, int64_t n) {
    int64_t d = io->in[ADD_NORM_A].dim[1];
    const float *a = io->in[ADD_NORM_A].data, *b = io->in[ADD_NORM_B].data;
    float *s = (float *)io->out[ADD_NORM_S].data + n * d;
    add_norm_row(s, a + n * d, b + n * d, d);
    return s;
}

float *add_norm_begin(const op_io_t *io, int64_t n) {
    int64_t d = io->gout.dim[1];
    const float *ds = io->gout.data;
    float *at = NULL;
    for (int k = ADD_NORM_A; k <= ADD_NORM_B && !at; k++)
        if (io->gin[k].data && !io->acc[k]) at = (float *)io->gin[k].data + n * d;
    if (!at) at = cpu_thread_scratch(io, 0, d);
    if (ds && at != ds + n * d) memcpy(at, ds + n * d, (size_t)d * sizeof *at);
    return at;
}

void add_norm_end(const op_io_t *io, int64_t n, const float *sum) {
    int64_t d = io->gout.dim[1];
    for (int k = ADD_NORM_A; k <= ADD_NORM_B; k++) {
        if (!io->gin[k].data) continue;
        float *g = (float *)io->gin[k].data + n * d;
        if (io->acc[k])
            add_norm_row(g, g, sum, d);
        else if (g != sum)
            memcpy(g, sum, (size_t)d * sizeof *g);
    }
}
