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

/* The table and row that the row at t of the batch comes from. */
static const oracle_tensor_t *source(const oracle_weights_t *w, const oracle_tensor_t *table, const oracle_batch_t *b,
                                     int64_t width, int64_t t, const int32_t **row) {
    bool slot = b->slot && b->slot[t] >= 0;
    const oracle_tensor_t *from = slot ? oracle_need(w, "slot.rows", -1) : table;
    *row = slot ? &b->slot[t] : &b->ids[t];
    if ((**row + 1) * width > from->count) oracle_fail("has not enough rows", from->name);
    return from;
}

void oracle_embed_batch(const oracle_weights_t *w, const oracle_tensor_t *table, const oracle_batch_t *b, int64_t width,
                        double *x) {
    for (int64_t t = 0; t < b->n_tokens; t++) {
        const int32_t *row;
        const oracle_tensor_t *from = source(w, table, b, width, t, &row);
        oracle_embed(from, row, 1, width, x + t * width);
    }
}

void oracle_embed_batch_backward(const oracle_weights_t *w, const oracle_tensor_t *table, const oracle_batch_t *b,
                                 int64_t width, const double *dx) {
    for (int64_t t = 0; t < b->n_tokens; t++) {
        const int32_t *row;
        const oracle_tensor_t *from = source(w, table, b, width, t, &row);
        oracle_embed_backward(from, row, 1, width, dx + t * width);
    }
}

int64_t oracle_first_position(const oracle_batch_t *b, int64_t s) {
    return b->cu_prefix ? b->cu_prefix[s + 1] - b->cu_prefix[s] : 0;
}

void oracle_attention_prefix(oracle_attention_t *a, const oracle_weights_t *w, const oracle_batch_t *b, int64_t layer) {
    if (!b->cu_prefix) return;
    int64_t count = b->cu_prefix[b->n_seqs] * a->kv_heads * a->head_dim;
    a->prefix_k = oracle_need(w, oracle_name("prefix.", layer, ".key").text, count);
    a->prefix_v = oracle_need(w, oracle_name("prefix.", layer, ".value").text, count);
}

/* What one head of a token sees: n rows, of which the first are its sequence's prefix. */
typedef struct sight {
    int64_t n, prefix;     /* rows */
    int64_t prefix_at, at; /* first row's element in the prefix and in k or v */
    int64_t prefix_stride, stride;
} sight_t;

static sight_t sight_of(const oracle_attention_t *a, const oracle_batch_t *b, int64_t s, int64_t t, int64_t head) {
    int64_t first = b->cu_seqlens[s], prefix = oracle_first_position(b, s), width = a->kv_heads * a->head_dim;
    int64_t column = head / (a->heads / a->kv_heads) * a->head_dim; /* query heads share a key/value head */
    return (sight_t){.n = prefix + t - first + 1,
                     .prefix = prefix,
                     .prefix_at = b->cu_prefix ? b->cu_prefix[s] * width + column : 0,
                     .at = first * a->kv_stride + column,
                     .prefix_stride = width,
                     .stride = a->kv_stride};
}

static const double *row(const sight_t *g, const oracle_tensor_t *prefix, const double *own, int64_t u) {
    return u < g->prefix ? prefix->value + g->prefix_at + u * g->prefix_stride
                         : own + g->at + (u - g->prefix) * g->stride;
}

/* NULL if the prefix wants no gradient. */
static double *grad_row(const sight_t *g, const oracle_tensor_t *prefix, double *own, int64_t u) {
    if (u >= g->prefix) return own + g->at + (u - g->prefix) * g->stride;
    return prefix->grad ? prefix->grad + g->prefix_at + u * g->prefix_stride : NULL;
}

static double dot(const double *x, const double *y, int64_t n) {
    double sum = 0;
    for (int64_t i = 0; i < n; i++) sum += x[i] * y[i];
    return sum;
}

static void add_scaled(double factor, const double *x, int64_t n, double *y) {
    for (int64_t i = 0; y && i < n; i++) y[i] += factor * x[i];
}

/* p[u] = softmax over what is seen of q . k_u / sqrt(h); `q` points at one head of a token. */
static void attention_row(const oracle_attention_t *a, const sight_t *g, const double *q, const double *k, double *p) {
    double top = -INFINITY, sum = 0;
    for (int64_t u = 0; u < g->n; u++) {
        p[u] = dot(q, row(g, a->prefix_k, k, u), a->head_dim) / sqrt((double)a->head_dim);
        if (p[u] > top) top = p[u];
    }
    for (int64_t u = 0; u < g->n; u++) sum += p[u] = exp(p[u] - top);
    for (int64_t u = 0; u < g->n; u++) p[u] /= sum;
}

static int64_t most_rows(const oracle_batch_t *b) {
    return b->n_tokens + (b->cu_prefix ? b->cu_prefix[b->n_seqs] : 0);
}

void oracle_attention(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                      const double *v, double *ctx) {
    double *p = oracle_zeros(1, most_rows(b));
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int64_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++)
            for (int64_t head = 0; head < a->heads; head++) {
                const sight_t g = sight_of(a, b, s, t, head);
                double *out = ctx + (t * a->heads + head) * a->head_dim;
                attention_row(a, &g, q + t * a->q_stride + head * a->head_dim, k, p);
                for (int64_t u = 0; u < g.n; u++) add_scaled(p[u], row(&g, a->prefix_v, v, u), a->head_dim, out);
            }
    free(p);
}

/* dv_u += p_u dctx;  dp_u = dctx . v_u;  dscore_u = p_u (dp_u - sum_j p_j dp_j);  then through the dot product. */
void oracle_attention_backward(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                               const double *v, const double *dctx, double *dq, double *dk, double *dv) {
    double *p = oracle_zeros(1, most_rows(b)), *dp = oracle_zeros(1, most_rows(b));
    int64_t h = a->head_dim;
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int64_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++)
            for (int64_t head = 0; head < a->heads; head++) {
                const sight_t g = sight_of(a, b, s, t, head);
                int64_t qt = t * a->q_stride + head * h;
                const double *dout = dctx + (t * a->heads + head) * h;
                attention_row(a, &g, q + qt, k, p);
                double mean = 0;
                for (int64_t u = 0; u < g.n; u++) {
                    dp[u] = dot(dout, row(&g, a->prefix_v, v, u), h);
                    add_scaled(p[u], dout, h, grad_row(&g, a->prefix_v, dv, u));
                    mean += p[u] * dp[u];
                }
                for (int64_t u = 0; u < g.n; u++) {
                    double dscore = p[u] * (dp[u] - mean) / sqrt((double)h);
                    add_scaled(dscore, row(&g, a->prefix_k, k, u), h, dq + qt);
                    add_scaled(dscore, q + qt, h, grad_row(&g, a->prefix_k, dk, u));
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
