#include "train/optim/adamw.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

status_t adamw_open(const param_set_t *params, double beta1, double beta2, double epsilon, double weight_decay,
                    adamw_t *out) {
    return adamw_open_share(params, 0, params->n_trainable, beta1, beta2, epsilon, weight_decay, out);
}

status_t adamw_open_share(const param_set_t *params, int64_t first, int64_t n, double beta1, double beta2,
                          double epsilon, double weight_decay, adamw_t *out) {
    memset(out, 0, sizeof *out);
    assert(first >= 0 && n >= 0 && first <= params->n_trainable - n);
    void *m, *v;
    TRY(buf_calloc(&m, n, sizeof(float), "optimiser state"));
    out->exp_avg = m;
    TRY(buf_calloc(&v, n, sizeof(float), "optimiser state"));
    out->exp_avg_sq = v;
    out->first = first;
    out->n = n;
    out->beta1 = beta1;
    out->beta2 = beta2;
    out->epsilon = epsilon;
    out->weight_decay = weight_decay;
    return ST_OK;
}

void adamw_close(adamw_t *a) {
    free(a->exp_avg);
    free(a->exp_avg_sq);
    memset(a, 0, sizeof *a);
}

void adamw_update(adamw_t *a, const param_set_t *params, const float *grad, double lr) {
    a->step++;
    double correction1 = 1.0 - pow(a->beta1, (double)a->step), correction2 = 1.0 - pow(a->beta2, (double)a->step);
    float b1 = (float)a->beta1, c1 = (float)(1.0 - a->beta1), b2 = (float)a->beta2, c2 = (float)(1.0 - a->beta2);
    float root2 = (float)sqrt(correction2), eps = (float)a->epsilon;
    for (int64_t i = 0; i < params->count; i++) {
        const param_t *p = &params->item[i];
        if (!p->trainable) continue;
        double rate = lr * p->lr_scale;
        float keep = p->decay ? (float)(1.0 - rate * a->weight_decay) : 1.0f, step_size = (float)(rate / correction1);
        int64_t lo = p->offset, hi = lo + view_count(&p->value), end = a->first + a->n;
        if (lo < a->first) lo = a->first;
        if (hi > end) hi = end;
        if (lo >= hi) continue;
        float *x = (float *)p->value.data + (lo - p->offset);
        const float *g = grad + lo;
        float *m = a->exp_avg + (lo - a->first), *v = a->exp_avg_sq + (lo - a->first);
        for (int64_t k = 0; k < hi - lo; k++) {
            m[k] = b1 * m[k] + c1 * g[k];
            v[k] = b2 * v[k] + c2 * g[k] * g[k];
            x[k] = x[k] * keep - step_size * (m[k] / (sqrtf(v[k]) / root2 + eps));
        }
    }
}

double grad_scale_and_clip(float *g, int64_t n, double scale, double max_norm) {
    enum { BLOCK = 4096 };
    float f = (float)scale;
    double total = 0;
    for (int64_t at = 0; at < n; at += BLOCK) {
        double sum = 0;
        for (int64_t i = at; i < n && i < at + BLOCK; i++) {
            g[i] *= f;
            sum += (double)g[i] * (double)g[i];
        }
        total += sum;
    }
    double norm = sqrt(total), factor = max_norm > 0 ? max_norm / (norm + 1e-6) : 1.0;
    if (factor < 1.0)
        for (int64_t i = 0; i < n; i++) g[i] *= (float)factor;
    return norm;
}
