/* What both models of the oracle use. Every *_backward takes the gradient of its output and adds to the gradients of
 * its inputs (dx, ...) and of the weights that want one. Scratch comes from oracle_zeros and is freed by its user. */
#pragma once
#include "tests/oracle/oracle.h"

_Noreturn void oracle_fail(const char *what, const char *name);
double *oracle_zeros(int64_t rows, int64_t cols);
/* Parts and formats a name: "model.layers.%d.mlp", 3, ".up_proj". The result is a static of the caller: see
 * oracle_name_t. */
typedef struct oracle_name {
    char text[160];
} oracle_name_t;
oracle_name_t oracle_name(const char *prefix, int64_t layer, const char *rest);

/* The tensor of that name; NULL when absent, aborts when its size is not `count` (count < 0: any size). */
const oracle_tensor_t *oracle_find(const oracle_weights_t *w, const char *name, int64_t count);
const oracle_tensor_t *oracle_need(const oracle_weights_t *w, const char *name, int64_t count);
bool oracle_wants_gradients(const oracle_weights_t *w);
void oracle_check_batch(const oracle_batch_t *b, int64_t vocab);

/* A linear with everything that may hang on it: y = x W^T (+ bias) (+ scale * x A^T B^T). oracle_lora.c */
typedef struct oracle_linear {
    const char *module; /* finds module.weight, module.bias, module.lora_A.weight, module.lora_B.weight */
    int64_t in, out;
    bool bias;
    bool conv1d; /* the weight is stored [in, out] */
} oracle_linear_t;
void oracle_linear(const oracle_weights_t *w, const oracle_linear_t *l, const double *x, int64_t n, double *y);
void oracle_linear_backward(const oracle_weights_t *w, const oracle_linear_t *l, const double *x, const double *dy,
                            int64_t n, double *dx);

/* Position of the first token of sequence s: the prefix stands before it. */
int64_t oracle_first_position(const oracle_batch_t *b, int64_t s);

/* Causal attention inside each sequence and over its prefix. q and ctx are [n, heads, head_dim], k and v [n, kv_heads,
 * head_dim], rows `q_stride` and `kv_stride` doubles apart (GPT-2 has q, k and v side by side in one array). */
typedef struct oracle_attention {
    int64_t heads, kv_heads, head_dim, q_stride, kv_stride;
    const oracle_tensor_t *prefix_k, *prefix_v; /* of this layer; NULL: none */
} oracle_attention_t;
/* Finds the prefix of a layer, if the batch has any. */
void oracle_attention_prefix(oracle_attention_t *a, const oracle_weights_t *w, const oracle_batch_t *b, int64_t layer);
void oracle_attention(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                      const double *v, double *ctx);
void oracle_attention_backward(const oracle_attention_t *a, const oracle_batch_t *b, const double *q, const double *k,
                               const double *v, const double *dctx, double *dq, double *dk, double *dv);

void oracle_embed(const oracle_tensor_t *table, const int32_t *rows, int64_t n, int64_t width, double *x);
void oracle_embed_backward(const oracle_tensor_t *table, const int32_t *rows, int64_t n, int64_t width,
                           const double *dx);
/* The same for the tokens of a batch, with rows of slot.rows in its slots. */
void oracle_embed_batch(const oracle_weights_t *w, const oracle_tensor_t *table, const oracle_batch_t *b, int64_t width,
                        double *x);
void oracle_embed_batch_backward(const oracle_weights_t *w, const oracle_tensor_t *table, const oracle_batch_t *b,
                                 int64_t width, const double *dx);

/* Fills r->loss_sum and r->weight_sum and turns `logits` [n, V] into the gradient of loss_sum with respect to them. */
void oracle_loss(const oracle_batch_t *b, int64_t vocab, double *logits, oracle_result_t *r);
