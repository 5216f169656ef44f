#include "kernels/ops/attention.h"
#include "kernels/ref/ref.h"

/* One query head over the keys of its sequence: `prefix` prefix rows, then the sequence's own. A pointer is NULL where
 * the tensor is. */
typedef struct head {
    const real_t *q, *k, *v, *prefix_k, *prefix_v;
    int64_t prefix, q_stride, kv_stride, dim;
    double scale;
} head_t;

static const real_t *place(const view_t *v, int64_t offset) {
    return v->data ? (const real_t *)v->data + offset : NULL;
}

static head_t head_of(const op_io_t *io, int64_t s, int64_t h) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data, *cup = io->in[ATTENTION_CU_PREFIX].data;
    int64_t dim = at->head_dim, q_stride = at->heads * dim, kv_stride = at->kv_heads * dim;
    int64_t column = h / (at->heads / at->kv_heads) * dim, row = cu[s] * kv_stride + column;
    int64_t prefix_row = (cup ? cup[s] : 0) * kv_stride + column;
    return (head_t){.q = place(&io->in[ATTENTION_Q], cu[s] * q_stride + h * dim),
                    .k = place(&io->in[ATTENTION_K], row),
                    .v = place(&io->in[ATTENTION_V], row),
                    .prefix_k = place(&io->in[ATTENTION_PREFIX_K], prefix_row),
                    .prefix_v = place(&io->in[ATTENTION_PREFIX_V], prefix_row),
                    .prefix = cup ? cup[s + 1] - cup[s] : 0,
                    .q_stride = q_stride,
                    .kv_stride = kv_stride,
                    .dim = dim,
                    .scale = at->scale};
}

/* Row j of [prefix keys; keys] and of [prefix values; values]. */
static const real_t *key(const head_t *hd, int64_t j) {
    return j < hd->prefix ? hd->prefix_k + j * hd->kv_stride : hd->k + (j - hd->prefix) * hd->kv_stride;
}
static const real_t *value(const head_t *hd, int64_t j) {
    return j < hd->prefix ? hd->prefix_v + j * hd->kv_stride : hd->v + (j - hd->prefix) * hd->kv_stride;
}

static double dot(const real_t *a, const real_t *b, int64_t n) {
    double sum = 0;
    for (int64_t c = 0; c < n; c++) sum += (double)a[c] * b[c];
    return sum;
}

static double score(const head_t *hd, int64_t i, int64_t j) {
    return hd->scale * dot(hd->q + i * hd->q_stride, key(hd, j), hd->dim);
}

static int64_t prefix_rows(const op_io_t *io) {
    return io->in[ATTENTION_PREFIX_K].rank ? io->in[ATTENTION_PREFIX_K].dim[0] : 0;
}

/* Forward: the scores of one row. Backward: one query's gradient, then the sums over the heads of a group for dk and dv
 * of all rows, those of prefixes first. */
size_t REF(ref_attention_scratch)(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    int64_t rows = prefix_rows(io) + io->in[ATTENTION_Q].dim[0], kv = io->in[ATTENTION_K].dim[1];
    return sizeof(double) * (size_t)(at->head_dim + 2 * rows * kv);
}

/* The row of query i; p holds its scores. */
static void attend(const head_t *hd, int64_t i, double *p, real_t *o, real_t *lse) {
    double max = -INFINITY, sum = 0;
    int64_t seen = hd->prefix + i + 1;
    for (int64_t j = 0; j < seen; j++) {
        p[j] = score(hd, i, j);
        max = fmax(max, p[j]);
    }
    for (int64_t j = 0; j < seen; j++) {
        p[j] = exp(p[j] - max);
        sum += p[j];
    }
    for (int64_t c = 0; c < hd->dim; c++) {
        double mean = 0;
        for (int64_t j = 0; j < seen; j++) mean += p[j] * value(hd, j)[c];
        o[c] = (real_t)(mean / sum);
    }
    *lse = (real_t)(max + log(sum));
}

void REF(ref_attention_fwd)(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    real_t *o = io->out[ATTENTION_O].data, *lse = io->out[ATTENTION_LSE].data;
    for (int64_t s = 0; s + 1 < io->in[ATTENTION_CU].dim[0]; s++)
        for (int64_t h = 0; h < at->heads; h++) {
            head_t hd = head_of(io, s, h);
            for (int64_t i = 0; i < cu[s + 1] - cu[s]; i++)
                attend(&hd, i, io->scratch, o + (cu[s] + i) * hd.q_stride + h * hd.dim,
                       lse + (cu[s] + i) * at->heads + h);
        }
}

/* What backward wants of the prefix keys and of the sequence's own: nothing of the others may be read. */
typedef struct wanted {
    bool dq, ds[2], any[2]; /* [0]: prefix, [1]: own */
} wanted_t;

static wanted_t wanted_of(const op_io_t *io) {
    const view_t *g = io->gin;
    wanted_t w = {.dq = g[ATTENTION_Q].data};
    w.ds[0] = w.dq || g[ATTENTION_PREFIX_K].data;
    w.ds[1] = w.dq || g[ATTENTION_K].data;
    w.any[0] = w.ds[0] || g[ATTENTION_PREFIX_V].data;
    w.any[1] = w.ds[1] || g[ATTENTION_V].data;
    return w;
}

/* Adds the part of query i to dk and dv, whose rows are [prefix; own] of the key head; gives scale sum_j ds_ij k_j. */
static void row_backward(const head_t *hd, wanted_t w, int64_t i, const real_t *dout, const real_t *o, double lse,
                         double *const dk[2], double *const dv[2], double *dq) {
    double row = w.ds[0] || w.ds[1] ? dot(dout, o, hd->dim) : 0;
    for (int64_t c = 0; c < hd->dim; c++) dq[c] = 0;
    for (int64_t j = 0; j < hd->prefix + i + 1; j++) {
        int own = j >= hd->prefix;
        int64_t at = (own ? j - hd->prefix : j) * hd->kv_stride;
        if (!w.any[own]) continue;
        double p = exp(score(hd, i, j) - lse);
        for (int64_t c = 0; c < hd->dim; c++) dv[own][at + c] += p * dout[c];
        if (!w.ds[own]) continue;
        double ds = p * (dot(dout, value(hd, j), hd->dim) - row);
        for (int64_t c = 0; c < hd->dim; c++) dk[own][at + c] += hd->scale * ds * hd->q[i * hd->q_stride + c];
        for (int64_t c = 0; w.dq && c < hd->dim; c++) dq[c] += ds * key(hd, j)[c];
    }
    for (int64_t c = 0; c < hd->dim; c++) dq[c] *= hd->scale;
}

static void put_all(const op_io_t *io, int input, const double *sum, int64_t count) {
    real_t *g = io->gin[input].data;
    for (int64_t i = 0; g && i < count; i++) ref_put(&g[i], io->acc[input], sum[i]);
}

void REF(ref_attention_bwd)(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data, *cup = io->in[ATTENTION_CU_PREFIX].data;
    const wanted_t wanted = wanted_of(io);
    real_t *gq = io->gin[ATTENTION_Q].data;
    int64_t dim = at->head_dim, q_stride = at->heads * dim, kv_stride = at->kv_heads * dim;
    int64_t prefix = prefix_rows(io) * kv_stride, own = io->in[ATTENTION_Q].dim[0] * kv_stride;
    double *dq = io->scratch, *dk = dq + dim, *dv = dk + prefix + own;
    for (int64_t i = 0; i < 2 * (prefix + own); i++) dk[i] = 0;
    for (int64_t s = 0; s + 1 < io->in[ATTENTION_CU].dim[0]; s++)
        for (int64_t h = 0; h < at->heads; h++) {
            head_t hd = head_of(io, s, h);
            int64_t column = h / (at->heads / at->kv_heads) * dim;
            int64_t first = (cup ? cup[s] : 0) * kv_stride + column, first_own = prefix + cu[s] * kv_stride + column;
            double *const head_dk[] = {dk + first, dk + first_own}, *const head_dv[] = {dv + first, dv + first_own};
            for (int64_t i = 0; i < cu[s + 1] - cu[s]; i++) {
                int64_t at_q = (cu[s] + i) * q_stride + h * dim;
                double lse = *place(&io->out[ATTENTION_LSE], (cu[s] + i) * at->heads + h);
                row_backward(&hd, wanted, i, place(&io->gout, at_q), place(&io->out[ATTENTION_O], at_q), lse, head_dk,
                             head_dv, dq);
                for (int64_t c = 0; gq && c < dim; c++) ref_put(&gq[at_q + c], io->acc[ATTENTION_Q], dq[c]);
            }
        }
    put_all(io, ATTENTION_PREFIX_K, dk, prefix);
    put_all(io, ATTENTION_K, dk + prefix, own);
    put_all(io, ATTENTION_PREFIX_V, dv, prefix);
    put_all(io, ATTENTION_V, dv + prefix, own);
}
