/* GPT-2 (formats.md 4.5): LayerNorm, learned positions, one fused q|k|v linear, GELU. */
#include <string.h>
#include "kernels/ops/cols.h"
#include "kernels/ops/embedding.h"
#include "train/models/build.h"

enum { LN1_W, LN1_B, LN2_W, LN2_B, SITE_QKV, SITE_O, SITE_FC, SITE_PROJ, GPT2_PARAMS };

static status_t read_hf(const json_t *j, const char *where, model_config_t *c) {
    const char *act;
    TRY(config_string(j, where, "activation_function", "gelu_new", &act));
    if (strcmp(act, "gelu_new") && strcmp(act, "gelu_pytorch_tanh"))
        return st_raise(ST_INPUT, where, "activation_function '%s' is not supported; gelu_new is", act);
    bool by_layer, scaled;
    TRY(config_bool(j, where, "scale_attn_by_inverse_layer_idx", false, &by_layer));
    TRY(config_bool(j, where, "scale_attn_weights", true, &scaled));
    if (by_layer || !scaled)
        return st_raise(ST_INPUT, where, "scale_attn_by_inverse_layer_idx and unscaled attention are not supported");
    TRY(config_i64(j, where, "vocab_size", 50257, &c->vocab));
    TRY(config_i64(j, where, "n_embd", 768, &c->hidden));
    TRY(config_i64(j, where, "n_layer", 12, &c->layers));
    TRY(config_i64(j, where, "n_head", 12, &c->heads));
    TRY(config_i64(j, where, "n_positions", 1024, &c->max_positions));
    TRY(config_i64(j, where, "n_inner", c->hidden < INT64_MAX / 4 ? 4 * c->hidden : 0, &c->ff));
    TRY(config_f64(j, where, "layer_norm_epsilon", 1e-5, &c->eps));
    TRY(config_bool(j, where, "tie_word_embeddings", true, &c->tied));
    c->kv_heads = c->heads;
    if (c->heads < 1 || c->hidden % c->heads)
        return st_raise(ST_INPUT, where, "n_embd %lld is not a multiple of n_head %lld", (long long)c->hidden,
                        (long long)c->heads);
    c->head_dim = c->hidden / c->heads;
    return ST_OK;
}

static status_t read_gguf(const gguf_t *g, const char *where, model_config_t *c) {
    TRY(gguf_need_i64(g, where, "gpt2", "embedding_length", &c->hidden));
    TRY(gguf_need_i64(g, where, "gpt2", "block_count", &c->layers));
    TRY(gguf_need_i64(g, where, "gpt2", "attention.head_count", &c->heads));
    TRY(gguf_need_i64(g, where, "gpt2", "context_length", &c->max_positions));
    TRY(gguf_need_i64(g, where, "gpt2", "feed_forward_length", &c->ff));
    if (!gguf_get_f64(g, "gpt2.attention.layer_norm_epsilon", &c->eps))
        return st_raise(ST_INPUT, where, "metadata key 'gpt2.attention.layer_norm_epsilon' is missing");
    if (c->heads < 1 || c->hidden % c->heads)
        return st_raise(ST_INPUT, where, "embedding_length %lld is not a multiple of head_count %lld",
                        (long long)c->hidden, (long long)c->heads);
    c->kv_heads = c->heads;
    c->head_dim = c->hidden / c->heads;
    c->vocab = gguf_arr_count(g, "tokenizer.ggml.tokens");
    c->tied = true;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const tensor_info_t *t = gguf_tensor_at(g, i);
        if (!strcmp(t->name, "output.weight")) c->tied = false;
        if (!strcmp(t->name, "token_embd.weight") && t->rank == 2) c->vocab = t->dim[0];
    }
    return ST_OK;
}

static status_t write_hf(const model_t *m, json_t **out) {
    const model_config_t *c = &m->config;
    *out = json_pack("{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:b}", "architectures", "GPT2LMHeadModel",
                     "model_type", "gpt2", "activation_function", "gelu_new", "vocab_size", (json_int_t)c->vocab,
                     "n_embd", (json_int_t)c->hidden, "n_layer", (json_int_t)c->layers, "n_head", (json_int_t)c->heads,
                     "n_positions", (json_int_t)c->max_positions, "n_inner", (json_int_t)c->ff, "layer_norm_epsilon",
                     c->eps, "tie_word_embeddings", (int)c->tied);
    return *out ? ST_OK : st_nomem("config.json", 0);
}

static status_t declare_layer(model_t *m, int64_t i) {
    const model_config_t *c = &m->config;
    int *p = m->layer_param + i * GPT2_PARAMS;
    int64_t d = c->hidden;
    TRY(model_declare(m, "transformer.h.%d.ln_1.weight", "blk.%d.attn_norm.weight", i, 1, d, 0, 0, &p[LN1_W]));
    TRY(model_declare(m, "transformer.h.%d.ln_1.bias", "blk.%d.attn_norm.bias", i, 1, d, 0, 0, &p[LN1_B]));
    TRY(model_declare_linear(m, "transformer.h.%d.attn.c_attn", "blk.%d.attn_qkv", i, 3 * d, d, true, WEIGHT_TRANSPOSED,
                             &p[SITE_QKV]));
    TRY(model_declare_linear(m, "transformer.h.%d.attn.c_proj", "blk.%d.attn_output", i, d, d, true,
                             WEIGHT_TRANSPOSED | WEIGHT_RESIDUAL, &p[SITE_O]));
    TRY(model_declare(m, "transformer.h.%d.ln_2.weight", "blk.%d.ffn_norm.weight", i, 1, d, 0, 0, &p[LN2_W]));
    TRY(model_declare(m, "transformer.h.%d.ln_2.bias", "blk.%d.ffn_norm.bias", i, 1, d, 0, 0, &p[LN2_B]));
    TRY(model_declare_linear(m, "transformer.h.%d.mlp.c_fc", "blk.%d.ffn_up", i, c->ff, d, true,
                             WEIGHT_TRANSPOSED | WEIGHT_FEED_FORWARD, &p[SITE_FC]));
    return model_declare_linear(m, "transformer.h.%d.mlp.c_proj", "blk.%d.ffn_down", i, d, c->ff, true,
                                WEIGHT_TRANSPOSED | WEIGHT_RESIDUAL | WEIGHT_FEED_FORWARD, &p[SITE_PROJ]);
}

static status_t declare(model_t *m) {
    const model_config_t *c = &m->config;
    TRY(model_declare(m, "transformer.wte.weight", "token_embd.weight", -1, 2, c->vocab, c->hidden, 0, &m->embed));
    TRY(model_declare(m, "transformer.wpe.weight", "position_embd.weight", -1, 2, c->max_positions, c->hidden, 0,
                      &m->positions));
    for (int64_t i = 0; i < c->layers; i++) TRY(declare_layer(m, i));
    TRY(model_declare(m, "transformer.ln_f.weight", "output_norm.weight", -1, 1, c->hidden, 0, 0, &m->final_norm));
    TRY(model_declare(m, "transformer.ln_f.bias", "output_norm.bias", -1, 1, c->hidden, 0, 0, &m->final_bias));
    m->head = m->embed;
    if (c->tied) return ST_OK;
    return model_declare(m, "lm_head.weight", "output.weight", -1, 2, c->vocab, c->hidden, 0, &m->head);
}

static val_t columns(build_t *b, const char *name, val_t x, int64_t first, int64_t count) {
    const cols_attr_t attr = {first, count};
    return tape_emit(b->tape, OP_COLS, name, 1, &x, &attr, sizeof attr, NULL);
}

/* The MLP's residual, as in llama.c: with the next block's norm (*h) where blocks are not replayed. */
static val_t mlp_residual(build_t *b, int64_t i, val_t x, val_t y, val_t *h) {
    const char *name = "mlp residual";
    const int *next = b->model->layer_param + (i + 1) * GPT2_PARAMS;
    *h = VAL_NONE;
    if (b->options.recompute || i + 1 == b->model->config.layers) return m_add(b, name, x, y);
    return m_add_layernorm(b, name, next[LN1_W], next[LN1_B], x, y, h);
}

/* *h: the norm of x, if it is there already; then that of the result. */
static val_t block(build_t *b, int64_t i, val_t x, val_t *h) {
    const int *p = b->model->layer_param + i * GPT2_PARAMS;
    int64_t d = b->model->config.hidden;
    if (h->id < 0) *h = m_layernorm(b, "attention norm", p[LN1_W], p[LN1_B], x);
    val_t qkv = m_linear(b, p[SITE_QKV], *h);
    val_t q = columns(b, "q", qkv, 0, d), k = columns(b, "k", qkv, d, d), v = columns(b, "v", qkv, 2 * d, d);
    val_t o = m_linear(b, p[SITE_O], m_attention(b, i, q, k, v));
    x = m_add_layernorm(b, "attention residual", p[LN2_W], p[LN2_B], x, o, h);
    val_t f = m_linear(b, p[SITE_FC], *h);
    val_t a = tape_emit(b->tape, OP_GELU, "mlp activation", 1, &f, NULL, 0, NULL);
    return mlp_residual(b, i, x, m_linear(b, p[SITE_PROJ], a), h);
}

static void build(build_t *b) {
    const val_t in[] = {tape_param(b->tape, b->model->positions), b->positions};
    const embedding_attr_t attr = {tape_real(b->tape)};
    val_t x = m_add(b, "embedding", m_embed(b),
                    tape_emit(b->tape, OP_EMBEDDING, "position embedding", 2, in, &attr, sizeof attr, NULL));
    val_t h = VAL_NONE;
    for (int64_t i = 0; i < b->model->config.layers; i++) {
        tape_segment_begin(b->tape, b->options.recompute);
        x = block(b, i, x, &h);
        tape_segment_end(b->tape);
    }
    m_tail(b, m_layernorm(b, "final norm", b->model->final_norm, b->model->final_bias, m_rows(b, x)));
}

static const char *const model_types[] = {"gpt2", NULL};
static const char *const config_keys[] = {"model_type",
                                          "activation_function",
                                          "scale_attn_by_inverse_layer_idx",
                                          "scale_attn_weights",
                                          "vocab_size",
                                          "n_embd",
                                          "n_layer",
                                          "n_head",
                                          "n_positions",
                                          "n_inner",
                                          "layer_norm_epsilon",
                                          "tie_word_embeddings",
                                          NULL};
static const char *const targets[] = {"c_attn", NULL};
const family_t family_gpt2 = {
    .name = "gpt2",
    .model_types = model_types,
    .gguf_arch = "gpt2",
    .config_keys = config_keys,
    .default_targets = targets,
    .layer_params = GPT2_PARAMS,
    .read_hf = read_hf,
    .read_gguf = read_gguf,
    .write_hf = write_hf,
    .declare = declare,
    .build = build,
};
