#include "kernels/ops/attention.h"
#include "kernels/ref/ref.h"

/* The places of one query head in the packed tensors. */
typedef struct head {
    const real_t *q, *k, *v;
    int64_t q_stride, kv_stride, dim;
    double scale;
} head_t;

static head_t head_of(const op_io_t *io, int64_t first, int64_t h) {
    const attention_attr_t *at = io->attr;
    int64_t kv = h / (at->heads / at->kv_heads), dim = at->head_dim;
    int64_t q_stride = at->heads * dim, kv_stride = at->kv_heads * dim;
    return (head_t){.q = (const real_t *)io->in[ATTENTION_Q].data + first * q_stride + h * dim,
                    .k = (const real_t *)io->in[ATTENTION_K].data + first * kv_stride + kv * dim,
                    .v = (const real_t *)io->in[ATTENTION_V].data + first * kv_stride + kv * dim,
                    .q_stride = q_stride,
                    .kv_stride = kv_stride,
                    .dim = dim,
                    .scale = at->scale};
}

static double score(const head_t *hd, int64_t i, int64_t j) {
    double sum = 0;
    for (int64_t c = 0; c < hd->dim; c++) sum += (double)hd->q[i * hd->q_stride + c] * hd->k[j * hd->kv_stride + c];
    return hd->scale * sum;
}

/* Probabilities and score gradients of one row; the sum over the heads of a group for dk and dv. */
size_t REF(ref_attention_scratch)(const op_io_t *io) {
    int64_t rows = io->in[ATTENTION_Q].dim[0], kv = io->in[ATTENTION_K].dim[1];
    return sizeof(double) * (size_t)(2 * rows + 2 * rows * kv);
}

void REF(ref_attention_fwd)(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    real_t *o = io->out[ATTENTION_O].data, *lse = io->out[ATTENTION_LSE].data;
    double *p = io->scratch;
    for (int64_t s = 0; s + 1 < io->in[ATTENTION_CU].dim[0]; s++)
        for (int64_t h = 0; h < at->heads; h++) {
            head_t hd = head_of(io, cu[s], h);
            for (int64_t i = 0; i < cu[s + 1] - cu[s]; i++) {
                double max = -INFINITY, sum = 0;
                for (int64_t j = 0; j <= i; j++) {
                    p[j] = score(&hd, i, j);
                    max = fmax(max, p[j]);
                }
                for (int64_t j = 0; j <= i; j++) {
                    p[j] = exp(p[j] - max);
                    sum += p[j];
                }
                for (int64_t c = 0; c < hd.dim; c++) {
                    double mean = 0;
                    for (int64_t j = 0; j <= i; j++) mean += p[j] * hd.v[j * hd.kv_stride + c];
                    o[(cu[s] + i) * hd.q_stride + h * hd.dim + c] = (real_t)(mean / sum);
                }
                lse[(cu[s] + i) * at->heads + h] = (real_t)(max + log(sum));
            }
        }
}

/* Gradients of one query head; dk and dv (sums over the group) are relative to the sequence and the key head. */
static void head_backward(const op_io_t *io, int64_t first, int64_t length, int64_t h, double *dk, double *dv) {
    const attention_attr_t *at = io->attr;
    head_t hd = head_of(io, first, h);
    const real_t *lse = io->out[ATTENTION_LSE].data;
    const real_t *o = (const real_t *)io->out[ATTENTION_O].data + first * hd.q_stride + h * hd.dim;
    const real_t *dout = (const real_t *)io->gout.data + first * hd.q_stride + h * hd.dim;
    real_t *dq = io->gin[ATTENTION_Q].data;
    bool need_ds = dq || io->gin[ATTENTION_K].data;
    double *p = io->scratch, *ds = p + io->in[ATTENTION_Q].dim[0];
    for (int64_t i = 0; i < length; i++) {
        const real_t *dout_i = dout + i * hd.q_stride;
        for (int64_t j = 0; j <= i; j++) p[j] = exp(score(&hd, i, j) - lse[(first + i) * at->heads + h]);
        for (int64_t j = 0; j <= i; j++)
            for (int64_t c = 0; c < hd.dim; c++) dv[j * hd.kv_stride + c] += p[j] * dout_i[c];
        if (!need_ds) continue;
        double row = 0;
        for (int64_t c = 0; c < hd.dim; c++) row += (double)dout_i[c] * o[i * hd.q_stride + c];
        for (int64_t j = 0; j <= i; j++) {
            double dp = 0;
            for (int64_t c = 0; c < hd.dim; c++) dp += (double)dout_i[c] * hd.v[j * hd.kv_stride + c];
            ds[j] = p[j] * (dp - row);
            for (int64_t c = 0; c < hd.dim; c++)
                dk[j * hd.kv_stride + c] += hd.scale * ds[j] * hd.q[i * hd.q_stride + c];
        }
        for (int64_t c = 0; dq && c < hd.dim; c++) {
            double sum = 0;
            for (int64_t j = 0; j <= i; j++) sum += ds[j] * hd.k[j * hd.kv_stride + c];
            ref_put(&dq[(first + i) * hd.q_stride + h * hd.dim + c], io->acc[ATTENTION_Q], hd.scale * sum);
        }
    }
}

void REF(ref_attention_bwd)(const op_io_t *io) {
    const attention_attr_t *at = io->attr;
    const int32_t *cu = io->in[ATTENTION_CU].data;
    int64_t rows = io->in[ATTENTION_Q].dim[0], kv_stride = at->kv_heads * at->head_dim;
    double *dk = (double *)io->scratch + 2 * rows, *dv = dk + rows * kv_stride;
    real_t *gk = io->gin[ATTENTION_K].data, *gv = io->gin[ATTENTION_V].data;
    for (int64_t i = 0; i < 2 * rows * kv_stride; i++) dk[i] = 0;
    for (int64_t s = 0; s + 1 < io->in[ATTENTION_CU].dim[0]; s++)
        for (int64_t h = 0; h < at->heads; h++) {
            int64_t kv = h / (at->heads / at->kv_heads), place = cu[s] * kv_stride + kv * at->head_dim;
            head_backward(io, cu[s], cu[s + 1] - cu[s], h, dk + place, dv + place);
        }
    for (int64_t i = 0; gk && i < rows * kv_stride; i++) ref_put(&gk[i], io->acc[ATTENTION_K], dk[i]);
    for (int64_t i = 0; gv && i < rows * kv_stride; i++) ref_put(&gv[i], io->acc[ATTENTION_V], dv[i]);
}
