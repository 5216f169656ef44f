/* Llama: forward, then backward, one function per step of the mathematics.
 *
 *   x = embedding of the tokens
 *   for every layer:   h = rmsnorm(x);  q, k, v = linears of h;  q, k = rope(q), rope(k)
 *                      x = x + o_proj(attention(q, k, v))
 *                      h = rmsnorm(x);  x = x + down_proj(silu(gate_proj(h)) * up_proj(h))
 *   logits = head(rmsnorm(x))
 *
 * The backward pass walks the same list from the end, with dx = d loss / d x at every point. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "tests/oracle/oracle_parts.h"

void oracle_rope_frequencies(const oracle_rope_t *rope, int64_t head_dim, double *inv_freq) {
    for (int64_t i = 0; i < head_dim / 2; i++) {
        double f = 1.0 / pow(rope->theta, (double)(2 * i) / (double)head_dim);
        double turns = rope->original_context * f / (2 * acos(-1.0)); /* full turns in the original context */
        if (rope->type == ORACLE_ROPE_LINEAR) f /= rope->factor;
        if (rope->type == ORACLE_ROPE_LLAMA3) {
            /* frequencies that turn often stay, those that turn rarely are divided, in between is blended */
            double keep = (turns - rope->low) / (rope->high - rope->low);
            keep = keep < 0 ? 0 : keep > 1 ? 1 : keep;
            f = keep * f + (1 - keep) * f / rope->factor;
        }
        inv_freq[i] = f;
    }
}

/* y = x / sqrt(mean(x^2) + eps) * weight */
static void rmsnorm(const oracle_tensor_t *weight, double eps, const double *x, int64_t n, int64_t d, double *y) {
    for (int64_t t = 0; t < n; t++) {
        double square = 0;
        for (int64_t i = 0; i < d; i++) square += x[t * d + i] * x[t * d + i];
        double inv = 1 / sqrt(square / (double)d + eps);
        for (int64_t i = 0; i < d; i++) y[t * d + i] = weight->value[i] * x[t * d + i] * inv;
    }
}

/* With inv = (mean(x^2) + eps)^-1/2 and g = weight * dy:  dx_i = inv g_i - inv^3 x_i (sum_j g_j x_j) / d. */
static void rmsnorm_backward(const oracle_tensor_t *weight, double eps, const double *x, const double *dy, int64_t n,
                             int64_t d, double *dx) {
    for (int64_t t = 0; t < n; t++) {
        double square = 0, dot = 0;
        for (int64_t i = 0; i < d; i++) {
            square += x[t * d + i] * x[t * d + i];
            dot += weight->value[i] * dy[t * d + i] * x[t * d + i];
        }
        double inv = 1 / sqrt(square / (double)d + eps);
        for (int64_t i = 0; i < d; i++) {
            dx[t * d + i] += inv * weight->value[i] * dy[t * d + i] - inv * inv * inv * x[t * d + i] * dot / (double)d;
            if (weight->grad) weight->grad[i] += dy[t * d + i] * x[t * d + i] * inv;
        }
    }
}

/* Turns the pairs (i, i + h/2) of every head by position * inv_freq[i], in place. A rotation's backward is the rotation
 * by the opposite angle: direction is 1 forward and -1 backward. */
static void rope(const oracle_llama_t *c, const oracle_batch_t *b, int64_t heads, double direction, double *x) {
    int64_t half = c->head_dim / 2;
    for (int64_t s = 0; s < b->n_seqs; s++)
        for (int64_t t = b->cu_seqlens[s]; t < b->cu_seqlens[s + 1]; t++)
            for (int64_t head = 0; head < heads; head++)
                for (int64_t i = 0; i < half; i++) {
                    double angle =
                        direction * (double)(oracle_first_position(b, s) + t - b->cu_seqlens[s]) * c->inv_freq[i];
                    double *first = x + (t * heads + head) * c->head_dim + i, *second = first + half;
                    double a = *first, z = *second;
                    *first = a * cos(angle) - z * sin(angle);
                    *second = z * cos(angle) + a * sin(angle);
                }
}

static double sigmoid(double x) {
    return 1 / (1 + exp(-x));
}

/* Everything a layer computed, kept for its backward. */
typedef struct layer {
    double *x;                      /* [n,D] input of the layer */
    double *attn_in, *q, *k, *v;    /* normed input [n,D]; q [n,H h], k, v [n,K h]: q and k after rope */
    double *ctx;                    /* [n,H h] output of attention */
    double *mid;                    /* [n,D] residual stream between attention and mlp */
    double *mlp_in, *gate, *up, *f; /* normed mid [n,D]; [n,F] each; f = silu(gate) * up */
} layer_t;

/* The seven linears and two norms of layer i. Names live in the struct, so fill it where it is used. */
typedef struct names {
    oracle_name_t name[7];
    oracle_linear_t q, k, v, o, gate, up, down;
    const oracle_tensor_t *norm_attn, *norm_mlp;
} names_t;

static void layer_names(const oracle_llama_t *c, const oracle_weights_t *w, int64_t i, names_t *s) {
    static const char *const module[7] = {".self_attn.q_proj", ".self_attn.k_proj", ".self_attn.v_proj",
                                          ".self_attn.o_proj", ".mlp.gate_proj",    ".mlp.up_proj",
                                          ".mlp.down_proj"};
    int64_t d = c->hidden, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    for (int m = 0; m < 7; m++) s->name[m] = oracle_name("model.layers.", i, module[m]);
    s->q = (oracle_linear_t){s->name[0].text, d, q, c->attention_bias, false};
    s->k = (oracle_linear_t){s->name[1].text, d, kv, c->attention_bias, false};
    s->v = (oracle_linear_t){s->name[2].text, d, kv, c->attention_bias, false};
    s->o = (oracle_linear_t){s->name[3].text, q, d, c->attention_bias, false};
    s->gate = (oracle_linear_t){s->name[4].text, d, c->ff, c->mlp_bias, false};
    s->up = (oracle_linear_t){s->name[5].text, d, c->ff, c->mlp_bias, false};
    s->down = (oracle_linear_t){s->name[6].text, c->ff, d, c->mlp_bias, false};
    s->norm_attn = oracle_need(w, oracle_name("model.layers.", i, ".input_layernorm.weight").text, d);
    s->norm_mlp = oracle_need(w, oracle_name("model.layers.", i, ".post_attention_layernorm.weight").text, d);
}

static oracle_attention_t attention_shape(const oracle_llama_t *c, const oracle_weights_t *w, const oracle_batch_t *b,
                                          int64_t layer) {
    oracle_attention_t a = {.heads = c->heads,
                            .kv_heads = c->kv_heads,
                            .head_dim = c->head_dim,
                            .q_stride = c->heads * c->head_dim,
                            .kv_stride = c->kv_heads * c->head_dim};
    oracle_attention_prefix(&a, w, b, layer);
    return a;
}

/* x goes in and comes out as the residual stream. */
static void layer_forward(const oracle_llama_t *c, const oracle_weights_t *w, const oracle_batch_t *b, int64_t i,
                          layer_t *a, double *x) {
    int64_t n = b->n_tokens, d = c->hidden, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    oracle_attention_t shape = attention_shape(c, w, b, i);
    names_t s;
    layer_names(c, w, i, &s);
    *a = (layer_t){oracle_zeros(n, d),     oracle_zeros(n, d),     oracle_zeros(n, q),    oracle_zeros(n, kv),
                   oracle_zeros(n, kv),    oracle_zeros(n, q),     oracle_zeros(n, d),    oracle_zeros(n, d),
                   oracle_zeros(n, c->ff), oracle_zeros(n, c->ff), oracle_zeros(n, c->ff)};
    double *out = oracle_zeros(n, d);

    memcpy(a->x, x, (size_t)(n * d) * sizeof *x);
    rmsnorm(s.norm_attn, c->eps, x, n, d, a->attn_in);
    oracle_linear(w, &s.q, a->attn_in, n, a->q);
    oracle_linear(w, &s.k, a->attn_in, n, a->k);
    oracle_linear(w, &s.v, a->attn_in, n, a->v);
    rope(c, b, c->heads, 1, a->q);
    rope(c, b, c->kv_heads, 1, a->k);
    oracle_attention(&shape, b, a->q, a->k, a->v, a->ctx);
    oracle_linear(w, &s.o, a->ctx, n, out);
    for (int64_t j = 0; j < n * d; j++) x[j] += out[j];

    memcpy(a->mid, x, (size_t)(n * d) * sizeof *x);
    rmsnorm(s.norm_mlp, c->eps, x, n, d, a->mlp_in);
    oracle_linear(w, &s.gate, a->mlp_in, n, a->gate);
    oracle_linear(w, &s.up, a->mlp_in, n, a->up);
    for (int64_t j = 0; j < n * c->ff; j++) a->f[j] = a->gate[j] * sigmoid(a->gate[j]) * a->up[j];
    oracle_linear(w, &s.down, a->f, n, out);
    for (int64_t j = 0; j < n * d; j++) x[j] += out[j];
    free(out);
}

/* dx goes in as the gradient of the layer's output and comes out as that of its input. A residual connection passes
 * dx on unchanged, and the branch adds its own: each *_backward below adds to dx. */
static void layer_backward(const oracle_llama_t *c, const oracle_weights_t *w, const oracle_batch_t *b, int64_t i,
                           const layer_t *a, double *dx) {
    int64_t n = b->n_tokens, d = c->hidden, q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    oracle_attention_t shape = attention_shape(c, w, b, i);
    names_t s;
    layer_names(c, w, i, &s);

    double *df = oracle_zeros(n, c->ff), *dgate = oracle_zeros(n, c->ff), *dup = oracle_zeros(n, c->ff);
    double *dnorm = oracle_zeros(n, d);
    oracle_linear_backward(w, &s.down, a->f, dx, n, df);
    for (int64_t j = 0; j < n * c->ff; j++) {
        double g = a->gate[j], sg = sigmoid(g);
        dup[j] = df[j] * g * sg;
        dgate[j] = df[j] * a->up[j] * sg * (1 + g * (1 - sg)); /* silu'(g) = s + g s (1 - s) */
    }
    oracle_linear_backward(w, &s.gate, a->mlp_in, dgate, n, dnorm);
    oracle_linear_backward(w, &s.up, a->mlp_in, dup, n, dnorm);
    rmsnorm_backward(s.norm_mlp, c->eps, a->mid, dnorm, n, d, dx);

    double *dctx = oracle_zeros(n, q), *dq = oracle_zeros(n, q), *dk = oracle_zeros(n, kv), *dv = oracle_zeros(n, kv);
    memset(dnorm, 0, (size_t)(n * d) * sizeof *dnorm);
    oracle_linear_backward(w, &s.o, a->ctx, dx, n, dctx);
    oracle_attention_backward(&shape, b, a->q, a->k, a->v, dctx, dq, dk, dv);
    rope(c, b, c->heads, -1, dq);
    rope(c, b, c->kv_heads, -1, dk);
    oracle_linear_backward(w, &s.q, a->attn_in, dq, n, dnorm);
    oracle_linear_backward(w, &s.k, a->attn_in, dk, n, dnorm);
    oracle_linear_backward(w, &s.v, a->attn_in, dv, n, dnorm);
    rmsnorm_backward(s.norm_attn, c->eps, a->x, dnorm, n, d, dx);

    double *const scratch[] = {df, dgate, dup, dnorm, dctx, dq, dk, dv};
    for (size_t j = 0; j < sizeof scratch / sizeof *scratch; j++) free(scratch[j]);
}

static void layer_free(layer_t *a) {
    double *const kept[] = {a->x, a->attn_in, a->q, a->k, a->v, a->ctx, a->mid, a->mlp_in, a->gate, a->up, a->f};
    for (size_t j = 0; j < sizeof kept / sizeof *kept; j++) free(kept[j]);
}

void oracle_llama_run(const oracle_llama_t *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r) {
    int64_t n = b->n_tokens, d = c->hidden;
    oracle_check_batch(b, c->vocab);
    const oracle_tensor_t *embed = oracle_need(w, "model.embed_tokens.weight", c->vocab * d);
    const oracle_tensor_t *norm = oracle_need(w, "model.norm.weight", d);
    oracle_linear_t head = {c->tied ? "model.embed_tokens" : "lm_head", d, c->vocab, false, false};
    double *x = oracle_zeros(n, d), *normed = oracle_zeros(n, d), *logits = oracle_zeros(n, c->vocab);
    layer_t *layers = calloc((size_t)c->layers + 1, sizeof *layers);
    if (!layers) oracle_fail("out of memory", "layers");

    oracle_embed_batch(w, embed, b, d, x);
    for (int64_t i = 0; i < c->layers; i++) layer_forward(c, w, b, i, &layers[i], x);
    rmsnorm(norm, c->eps, x, n, d, normed);
    oracle_linear(w, &head, normed, n, logits);
    if (r->logits) memcpy(r->logits, logits, (size_t)(n * c->vocab) * sizeof *logits);
    oracle_loss(b, c->vocab, logits, r); /* from here on `logits` is their gradient */

    if (oracle_wants_gradients(w)) {
        double *dnormed = oracle_zeros(n, d), *dx = oracle_zeros(n, d);
        oracle_linear_backward(w, &head, normed, logits, n, dnormed);
        rmsnorm_backward(norm, c->eps, x, dnormed, n, d, dx);
        for (int64_t i = c->layers; i-- > 0;) layer_backward(c, w, b, i, &layers[i], dx);
        oracle_embed_batch_backward(w, embed, b, d, dx);
        free(dnormed);
        free(dx);
    }
    for (int64_t i = 0; i < c->layers; i++) layer_free(&layers[i]);
    free(layers);
    free(x);
    free(normed);
    free(logits);
}
