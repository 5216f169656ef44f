/* Weights by name, embedding, attention and loss: what Llama and GPT-2 have in common. */
#include "tests/oracle/oracle_parts.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Noreturn void oracle_fail(const char *what, const char *name) {
    fprintf(stderr, "oracle: %s: %s\n", name, what);
    abort();
}

double *oracle_zeros(int64_t rows, int64_t cols) {
    double *p = calloc((size_t)(rows * cols + 1), sizeof *p);
    if (!p) oracle_fail("out of memory", "scratch");
    return p;
}

oracle_name_t oracle_name(const char *prefix, int64_t layer, const char *rest) {
    oracle_name_t name;
    snprintf(name.text, sizeof name.text, "%s%lld%s", prefix, (long long)layer, rest);
    return name;
}

const oracle_tensor_t *oracle_find(const oracle_weights_t *w, const char *name, int64_t count) {
    for (int64_t i = 0; i < w->n; i++) {
        if (strcmp(w->tensor[i].name, name)) continue;
        if (count >= 0 && w->tensor[i].count != count) oracle_fail("wrong number of elements", name);
        return &w->tensor[i];
    }
    return NULL;
}

const oracle_tensor_t *oracle_need(const oracle_weights_t *w, const char *name, int64_t count) {
    const oracle_tensor_t *t = oracle_find(w, name, count);
    if (!t) oracle_fail("tensor is missing", name);
    return t;
}

bool oracle_wants_gradients(const oracle_weights_t *w) {
    for (int64_t i = 0; i < w->n; i++)
        if (w->tensor[i].grad) return true;
    return false;
}

void oracle_check_batch(const oracle_batch_t *b, int64_t vocab) {
    if (b->cu_seqlens[0] != 0 || b->cu_seqlens[b->n_seqs] != b->n_tokens) oracle_fail("ends are wrong", "cu_seqlens");
    for (int64_t s = 0; s < b->n_seqs; s++)
        if (b->cu_seqlens[s + 1] < b->cu_seqlens[s]) oracle_fail("must not decrease", "cu_seqlens");
    for (int64_t t = 0; t < b->n_tokens; t++) {
        if (b->ids[t] < 0 || b->ids[t] >= vocab) oracle_fail("out of range", "ids");
        if (b->targets[t] < -1 || b->targets[t] >= vocab) oracle_fail("out of range", "targets");
    }
}

void oracle_embed(const oracle_tensor_t *table, const int32_t *rows, int64_t n, int64_t width, double *x) {
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < width; i++) x[t * width + i] += table->value[rows[t] * width + i];
}

void oracle_embed_backward(const oracle_tensor_t *table, const int32_t *rows, int64_t n, int64_t width,
                           const double *dx) {
    if (!table->grad) return;
    for (int64_t t = 0; t < n; t++)
        for (int64_t i = 0; i < width; i++) table->grad[rows[t] * width + i] += dx[t * width + i];
}

/* p[s] = softmax over s <= t of q_t . k_s / sqrt(h). `q` points at one head of token t, `k` at the key head of the
 * sequence's first token; there are `seen` keys. */
static void attention_row(const oracle_attention_t *a, const double *q, const double *k, int64_t seen, double *p) {
    double top = -INFINITY, sum = 0;
    for (int64_t s = 0; s < seen; s++) {
        double dot = 0;
        for (int64_t i = 0; i < a->head_dim; i++) dot += q[i] * k[s * a->kv_stride + i];
        p[s] = dot / sqrt((double)a->head_dim);
        if (p[s] > top) top = p[s];
    }
    for (int64_t s = 0; s < seen; s++) sum += p[s] = exp(p[s] - top);
    for (int64_t s = 0; s < seen; s++) p[s] /= sum;
}

void oracle_attention(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                      const double *v, double *ctx) {
    double *p = oracle_zeros(1, b->n_tokens);
    int64_t share = a->heads / a->kv_heads; /* query heads per key/value head */
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int64_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++)
            for (int64_t head = 0; head < a->heads; head++) {
                int64_t first = b->cu_seqlens[s], seen = t - first + 1;
                int64_t kv = first * a->kv_stride + head / share * a->head_dim;
                double *out = ctx + (t * a->heads + head) * a->head_dim;
                attention_row(a, q + t * a->q_stride + head * a->head_dim, k + kv, seen, p);
                for (int64_t u = 0; u < seen; u++)
                    for (int64_t i = 0; i < a->head_dim; i++) out[i] += p[u] * v[kv + u * a->kv_stride + i];
            }
    free(p);
}

/* dv_u += p_u dctx;  dp_u = dctx . v_u;  dscore_u = p_u (dp_u - sum_j p_j dp_j);  then through the dot product. */
void oracle_attention_backward(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                               const double *v, const double *dctx, double *dq, double *dk, double *dv) {
    double *p = oracle_zeros(1, b->n_tokens), *dp = oracle_zeros(1, b->n_tokens);
    int64_t share = a->heads / a->kv_heads, h = a->head_dim;
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int64_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++)
            for (int64_t head = 0; head < a->heads; head++) {
                int64_t first = b->cu_seqlens[s], seen = t - first + 1;
                int64_t kv = first * a->kv_stride + head / share * h, qt = t * a->q_stride + head * h;
                const double *g = dctx + (t * a->heads + head) * h;
                attention_row(a, q + qt, k + kv, seen, p);
                double mean = 0;
                for (int64_t u = 0; u < seen; u++) {
                    dp[u] = 0;
                    for (int64_t i = 0; i < h; i++) {
                        dp[u] += g[i] * v[kv + u * a->kv_stride + i];
                        dv[kv + u * a->kv_stride + i] += p[u] * g[i];
                    }
                    mean += p[u] * dp[u];
                }
                for (int64_t u = 0; u < seen; u++) {
                    double dscore = p[u] * (dp[u] - mean) / sqrt((double)h);
                    for (int64_t i = 0; i < h; i++) {
                        dq[qt + i] += dscore * k[kv + u * a->kv_stride + i];
                        dk[kv + u * a->kv_stride + i] += dscore * q[qt + i];
                    }
                }
            }
    free(p);
    free(dp);
}

/* -log softmax(z)[target] = log sum exp z - z[target]; its gradient is softmax(z) - onehot(target). */
void oracle_loss(const oracle_batch_t *b, int64_t vocab, double *logits, oracle_result_t *r) {
    r->loss_sum = r->weight_sum = 0;
    for (int64_t t = 0; t < b->n_tokens; t++) {
        double *z = logits + t * vocab, top = -INFINITY, sum = 0;
        double weight = b->targets[t] < 0 ? 0 : b->weights[t];
        for (int64_t i = 0; i < vocab; i++) top = z[i] > top ? z[i] : top;
        for (int64_t i = 0; i < vocab; i++) sum += exp(z[i] - top);
        if (b->targets[t] >= 0) r->loss_sum += weight * (top + log(sum) - z[b->targets[t]]);
        r->weight_sum += weight;
        for (int64_t i = 0; i < vocab; i++) z[i] = weight * (exp(z[i] - top) / sum - (i == b->targets[t] ? 1.0 : 0.0));
    }
}
