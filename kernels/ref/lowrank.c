#include "kernels/ops/lowrank.h"
#include "kernels/philox.h"
#include "kernels/ref/ref.h"

/* The factor of element (n, i): 0 or 1/(1-p). */
static double drop(const op_io_t *io, int64_t n, int64_t i) {
    const lowrank_attr_t *at = io->attr;
    if (at->dropout <= 0 || !io->step->training) return 1;
    const uint64_t *key = io->in[LOWRANK_KEY].data;
    uint32_t word[4];
    rng_words(io->step->seed, RNG_DROPOUT, io->step->step, lowrank_dropout_index(key[n], at->site, i / 4), word);
    return rng_unit(word[i % 4]) >= at->dropout ? 1 / (1 - at->dropout) : 0;
}

/* One row of drop(x), then dt for all rows. */
size_t REF(ref_lowrank_scratch)(const op_io_t *io) {
    int64_t rows = io->in[LOWRANK_X].dim[0], k = io->in[LOWRANK_A].dim[1], r = io->in[LOWRANK_A].dim[0];
    return sizeof(double) * (size_t)((rows > k ? rows : k) + rows * r);
}

void REF(ref_lowrank_fwd)(const op_io_t *io) {
    const lowrank_attr_t *at = io->attr;
    const real_t *y = io->in[LOWRANK_Y].data, *x = io->in[LOWRANK_X].data;
    const real_t *a = io->in[LOWRANK_A].data, *b = io->in[LOWRANK_B].data;
    real_t *out = io->out[LOWRANK_OUT].data, *t = io->out[LOWRANK_T].data;
    double *xd = io->scratch;
    int64_t rows = io->in[LOWRANK_X].dim[0], k = io->in[LOWRANK_A].dim[1], r = io->in[LOWRANK_A].dim[0];
    int64_t m = io->in[LOWRANK_B].dim[0];
    for (int64_t n = 0; n < rows; n++) {
        for (int64_t i = 0; i < k; i++) xd[i] = drop(io, n, i) * x[n * k + i];
        for (int64_t l = 0; l < r; l++) {
            double sum = 0;
            for (int64_t i = 0; i < k; i++) sum += xd[i] * a[l * k + i];
            t[n * r + l] = (real_t)sum;
        }
        for (int64_t j = 0; j < m; j++) {
            double sum = 0;
            for (int64_t l = 0; l < r; l++) sum += (double)t[n * r + l] * b[j * r + l];
            out[n * m + j] = (real_t)(y[n * m + j] + at->scale * sum);
        }
    }
}

void REF(ref_lowrank_bwd)(const op_io_t *io) {
    const lowrank_attr_t *at = io->attr;
    const real_t *x = io->in[LOWRANK_X].data, *a = io->in[LOWRANK_A].data, *b = io->in[LOWRANK_B].data;
    const real_t *t = io->out[LOWRANK_T].data, *dout = io->gout.data;
    real_t *dy = io->gin[LOWRANK_Y].data, *dx = io->gin[LOWRANK_X].data;
    real_t *da = io->gin[LOWRANK_A].data, *db = io->gin[LOWRANK_B].data;
    int64_t rows = io->in[LOWRANK_X].dim[0], k = io->in[LOWRANK_A].dim[1], r = io->in[LOWRANK_A].dim[0];
    int64_t m = io->in[LOWRANK_B].dim[0];
    double *xd = io->scratch, *dt = xd + (rows > k ? rows : k);

    if (dy && dy != dout)
        for (int64_t i = 0; i < rows * m; i++) ref_put(&dy[i], io->acc[LOWRANK_Y], dout[i]);
    for (int64_t j = 0; db && j < m; j++)
        for (int64_t l = 0; l < r; l++) {
            double sum = 0;
            for (int64_t n = 0; n < rows; n++) sum += (double)dout[n * m + j] * t[n * r + l];
            ref_put(&db[j * r + l], io->acc[LOWRANK_B], at->scale * sum);
        }
    if (!dx && !da) return;
    for (int64_t n = 0; n < rows; n++)
        for (int64_t l = 0; l < r; l++) {
            double sum = 0;
            for (int64_t j = 0; j < m; j++) sum += (double)dout[n * m + j] * b[j * r + l];
            dt[n * r + l] = at->scale * sum;
        }
    for (int64_t i = 0; da && i < k; i++) {
        for (int64_t n = 0; n < rows; n++) xd[n] = drop(io, n, i) * x[n * k + i];
        for (int64_t l = 0; l < r; l++) {
            double sum = 0;
            for (int64_t n = 0; n < rows; n++) sum += dt[n * r + l] * xd[n];
            ref_put(&da[l * k + i], io->acc[LOWRANK_A], sum);
        }
    }
    for (int64_t n = 0; dx && n < rows; n++)
        for (int64_t i = 0; i < k; i++) {
            double sum = 0;
            for (int64_t l = 0; l < r; l++) sum += dt[n * r + l] * a[l * k + i];
            ref_put(&dx[n * k + i], io->acc[LOWRANK_X], drop(io, n, i) * sum);
        }
}
