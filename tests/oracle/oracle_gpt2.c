/* GPT-2: forward, then backward. Read oracle_llama.c first; what differs is here.
 *
 *   x = wte[token] + wpe[position]
 *   for every layer:   x = x + c_proj(attention(c_attn(layernorm(x))))      c_attn gives q, k and v side by side
 *                      x = x + c_proj(gelu(c_fc(layernorm(x))))
 *   logits = head(layernorm(x)) */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/oracle/oracle_parts.h"

typedef struct norm {
    const oracle_tensor_t *weight, *bias;
} norm_t;

static norm_t need_norm(const oracle_weights_t *w, const char *weight, const char *bias, int64_t d) {
    return (norm_t){oracle_need(w, weight, d), oracle_need(w, bias, d)};
}

static void moments(const double *x, int64_t d, double eps, double *mean, double *inv) {
    double sum = 0, square = 0;
    for (int64_t i = 0; i < d; i++) sum += x[i];
    *mean = sum / (double)d;
    for (int64_t i = 0; i < d; i++) square += (x[i] - *mean) * (x[i] - *mean);
    *inv = 1 / sqrt(square / (double)d + eps);
}

/* y = (x - mean) * inv * weight + bias */
static void layernorm(norm_t norm, double eps, const double *x, int64_t n, int64_t d, double *y) {
    for (int64_t t = 0; t < n; t++) {
        double mean, inv;
        moments(x + t * d, d, eps, &mean, &inv);
        for (int64_t i = 0; i < d; i++)
            y[t * d + i] = (x[t * d + i] - mean) * inv * norm.weight->value[i] + norm.bias->value[i];
    }
}

/* With z = (x - mean) * inv and g = weight * dy:  dx = inv * (g - mean(g) - z * mean(g z)). */
static void layernorm_backward(norm_t norm, double eps, const double *x, const double *dy, int64_t n, int64_t d,
                               double *dx) {
    for (int64_t t = 0; t < n; t++) {
        double mean, inv, g_mean = 0, gz_mean = 0;
        moments(x + t * d, d, eps, &mean, &inv);
        for (int64_t i = 0; i < d; i++) {
            double g = norm.weight->value[i] * dy[t * d + i], z = (x[t * d + i] - mean) * inv;
            g_mean += g / (double)d;
            gz_mean += g * z / (double)d;
            if (norm.weight->grad) norm.weight->grad[i] += dy[t * d + i] * z;
            if (norm.bias->grad) norm.bias->grad[i] += dy[t * d + i];
        }
        for (int64_t i = 0; i < d; i++) {
            double g = norm.weight->value[i] * dy[t * d + i], z = (x[t * d + i] - mean) * inv;
            dx[t * d + i] += inv * (g - g_mean - z * gz_mean);
        }
    }
}

/* gelu_new: x/2 (1 + tanh(c (x + 0.044715 x^3))), c = sqrt(2/pi); the second function is its derivative. */
static double gelu(double x) {
    return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1.0)) * (x + 0.044715 * x * x * x)));
}

static double gelu_slope(double x) {
    double c = sqrt(2 / acos(-1.0)), th = tanh(c * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + th) + 0.5 * x * (1 - th * th) * c * (1 + 3 * 0.044715 * x * x);
}

/* Everything a layer computed, kept for its backward. */
typedef struct layer {
    double *x, *attn_in;  /* [n,D] input of the layer, normed */
    double *qkv;          /* [n,3 D] */
    double *ctx;          /* [n,D] output of attention */
    double *mid, *mlp_in; /* [n,D] residual stream between attention and mlp, normed */
    double *fc, *act;     /* [n,F] before and after gelu */
} layer_t;

typedef struct names {
    oracle_name_t name[4];
    oracle_linear_t attn, attn_out, fc, mlp_out;
    norm_t norm_attn, norm_mlp;
} names_t;

static void layer_names(const oracle_gpt2_t *c, const oracle_weights_t *w, int64_t i, names_t *s) {
    static const char *const module[4] = {".attn.c_attn", ".attn.c_proj", ".mlp.c_fc", ".mlp.c_proj"};
    int64_t d = c->hidden;
    for (int m = 0; m < 4; m++) s->name[m] = oracle_name("transformer.h.", i, module[m]);
    s->attn = (oracle_linear_t){s->name[0].text, d, 3 * d, true, true};
    s->attn_out = (oracle_linear_t){s->name[1].text, d, d, true, true};
    s->fc = (oracle_linear_t){s->name[2].text, d, c->ff, true, true};
    s->mlp_out = (oracle_linear_t){s->name[3].text, c->ff, d, true, true};
    s->norm_attn = need_norm(w, oracle_name("transformer.h.", i, ".ln_1.weight").text,
                             oracle_name("transformer.h.", i, ".ln_1.bias").text, d);
    s->norm_mlp = need_norm(w, oracle_name("transformer.h.", i, ".ln_2.weight").text,
                            oracle_name("transformer.h.", i, ".ln_2.bias").text, d);
}

static oracle_attention_t attention_shape(const oracle_gpt2_t *c, const oracle_weights_t *w, const oracle_batch_t *b,
                                          int64_t layer) {
    oracle_attention_t a = {.heads = c->heads,
                            .kv_heads = c->heads,
                            .head_dim = c->hidden / c->heads,
                            .q_stride = 3 * c->hidden,
                            .kv_stride = 3 * c->hidden};
    oracle_attention_prefix(&a, w, b, layer);
    return a;
}

/* x goes in and comes out as the residual stream. */
static void layer_forward(const oracle_gpt2_t *c, const oracle_weights_t *w, const oracle_batch_t *b, int64_t i,
                          layer_t *a, double *x) {
    int64_t n = b->n_tokens, d = c->hidden;
    oracle_attention_t shape = attention_shape(c, w, b, i);
    names_t s;
    layer_names(c, w, i, &s);
    *a = (layer_t){oracle_zeros(n, d), oracle_zeros(n, d), oracle_zeros(n, 3 * d), oracle_zeros(n, d),
                   oracle_zeros(n, d), oracle_zeros(n, d), oracle_zeros(n, c->ff), oracle_zeros(n, c->ff)};
    double *out = oracle_zeros(n, d);

    memcpy(a->x, x, (size_t)(n * d) * sizeof *x);
    layernorm(s.norm_attn, c->eps, x, n, d, a->attn_in);
    oracle_linear(w, &s.attn, a->attn_in, n, a->qkv);
    oracle_attention(&shape, b, a->qkv, a->qkv + d, a->qkv + 2 * d, a->ctx);
    oracle_linear(w, &s.attn_out, a->ctx, n, out);
    for (int64_t j = 0; j < n * d; j++) x[j] += out[j];

    memcpy(a->mid, x, (size_t)(n * d) * sizeof *x);
    layernorm(s.norm_mlp, c->eps, x, n, d, a->mlp_in);
    oracle_linear(w, &s.fc, a->mlp_in, n, a->fc);
    for (int64_t j = 0; j < n * c->ff; j++) a->act[j] = gelu(a->fc[j]);
    oracle_linear(w, &s.mlp_out, a->act, n, out);
    for (int64_t j = 0; j < n * d; j++) x[j] += out[j];
    free(out);
}

/* dx goes in as the gradient of the layer's output and comes out as that of its input. */
static void layer_backward(const oracle_gpt2_t *c, const oracle_weights_t *w, const oracle_batch_t *b, int64_t i,
                           const layer_t *a, double *dx) {
    int64_t n = b->n_tokens, d = c->hidden;
    oracle_attention_t shape = attention_shape(c, w, b, i);
    names_t s;
    layer_names(c, w, i, &s);

    double *dact = oracle_zeros(n, c->ff), *dnorm = oracle_zeros(n, d);
    oracle_linear_backward(w, &s.mlp_out, a->act, dx, n, dact);
    for (int64_t j = 0; j < n * c->ff; j++) dact[j] *= gelu_slope(a->fc[j]);
    oracle_linear_backward(w, &s.fc, a->mlp_in, dact, n, dnorm);
    layernorm_backward(s.norm_mlp, c->eps, a->mid, dnorm, n, d, dx);

    double *dctx = oracle_zeros(n, d), *dqkv = oracle_zeros(n, 3 * d);
    memset(dnorm, 0, (size_t)(n * d) * sizeof *dnorm);
    oracle_linear_backward(w, &s.attn_out, a->ctx, dx, n, dctx);
    oracle_attention_backward(&shape, b, a->qkv, a->qkv + d, a->qkv + 2 * d, dctx, dqkv, dqkv + d, dqkv + 2 * d);
    oracle_linear_backward(w, &s.attn, a->attn_in, dqkv, n, dnorm);
    layernorm_backward(s.norm_attn, c->eps, a->x, dnorm, n, d, dx);

    double *const scratch[] = {dact, dnorm, dctx, dqkv};
    for (size_t j = 0; j < sizeof scratch / sizeof *scratch; j++) free(scratch[j]);
}

static void layer_free(layer_t *a) {
    double *const kept[] = {a->x, a->attn_in, a->qkv, a->ctx, a->mid, a->mlp_in, a->fc, a->act};
    for (size_t j = 0; j < sizeof kept / sizeof *kept; j++) free(kept[j]);
}

/* The caller frees. */
static int32_t *positions_of(const oracle_gpt2_t *c, const oracle_batch_t *b) {
    int32_t *position = calloc((size_t)b->n_tokens + 1, sizeof *position);
    if (!position) oracle_fail("out of memory", "positions");
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int32_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++) {
            position[t] = (int32_t)oracle_first_position(b, s) + t - b->cu_seqlens[s];
            if (position[t] >= c->positions) oracle_fail("a sequence is longer than the table", "transformer.wpe");
        }
    return position;
}

void oracle_gpt2_run(const oracle_gpt2_t *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r) {
    int64_t n = b->n_tokens, d = c->hidden;
    oracle_check_batch(b, c->vocab);
    const oracle_tensor_t *wte = oracle_need(w, "transformer.wte.weight", c->vocab * d);
    const oracle_tensor_t *wpe = oracle_need(w, "transformer.wpe.weight", c->positions * d);
    norm_t norm = need_norm(w, "transformer.ln_f.weight", "transformer.ln_f.bias", d);
    oracle_linear_t head = {c->tied ? "transformer.wte" : "lm_head", d, c->vocab, false, false};
    int32_t *position = positions_of(c, b);
    double *x = oracle_zeros(n, d), *normed = oracle_zeros(n, d), *logits = oracle_zeros(n, c->vocab);
    layer_t *layers = calloc((size_t)c->layers + 1, sizeof *layers);
    if (!layers) oracle_fail("out of memory", "layers");

    oracle_embed_batch(w, wte, b, d, x);
    oracle_embed(wpe, position, n, d, x);
    for (int64_t i = 0; i < c->layers; i++) layer_forward(c, w, b, i, &layers[i], x);
    layernorm(norm, c->eps, x, n, d, normed);
    oracle_linear(w, &head, normed, n, logits);
    if (r->logits) memcpy(r->logits, logits, (size_t)(n * c->vocab) * sizeof *logits);
    oracle_loss(b, c->vocab, logits, r); /* from here on `logits` is their gradient */

    if (oracle_wants_gradients(w)) {
        double *dnormed = oracle_zeros(n, d), *dx = oracle_zeros(n, d);
        oracle_linear_backward(w, &head, normed, logits, n, dnormed);
        layernorm_backward(norm, c->eps, x, dnormed, n, d, dx);
        for (int64_t i = c->layers; i-- > 0;) layer_backward(c, w, b, i, &layers[i], dx);
        oracle_embed_batch_backward(w, wte, b, d, dx);
        oracle_embed_backward(wpe, position, n, d, dx);
        free(dnormed);
        free(dx);
    }
    for (int64_t i = 0; i < c->layers; i++) layer_free(&layers[i]);
    free(layers);
    free(position);
    free(x);
    free(normed);
    free(logits);
}
