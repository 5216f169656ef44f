/* Llama and what shares its shape: SmolLM2, Llama 2 and 3, TinyLlama, Mistral without a window (formats.md 4.6). */
#include <stdio.h>
#include <string.h>
#include "kernels/ops/silu_mul.h"
#include "train/models/build.h"

enum { NORM_ATTN, NORM_MLP, SITE_Q, SITE_K, SITE_V, SITE_O, SITE_GATE, SITE_UP, SITE_DOWN, LLAMA_PARAMS };

static status_t read_hf(const json_t *j, const char *where, model_config_t *c) {
    const char *act;
    TRY(config_string(j, where, "hidden_act", "silu", &act));
    if (strcmp(act, "silu")) return st_raise(ST_INPUT, where, "hidden_act '%s' is not supported; silu is", act);
    TRY(config_i64(j, where, "vocab_size", 32000, &c->vocab));
    TRY(config_i64(j, where, "hidden_size", 4096, &c->hidden));
    TRY(config_i64(j, where, "num_hidden_layers", 32, &c->layers));
    TRY(config_i64(j, where, "num_attention_heads", 32, &c->heads));
    bool mistral =
        json_object_get(j, "model_type") && !strcmp(json_string_value(json_object_get(j, "model_type")), "mistral");
    TRY(config_i64(j, where, "num_key_value_heads", mistral ? 8 : c->heads, &c->kv_heads));
    TRY(config_i64(j, where, "head_dim", c->heads > 0 ? c->hidden / c->heads : 0, &c->head_dim));
    TRY(config_i64(j, where, "intermediate_size", mistral ? 14336 : 11008, &c->ff));
    TRY(config_i64(j, where, "max_position_embeddings", mistral ? 131072 : 2048, &c->max_positions));
    TRY(config_f64(j, where, "rms_norm_eps", 1e-6, &c->eps));
    TRY(config_bool(j, where, "tie_word_embeddings", false, &c->tied));
    TRY(config_bool(j, where, "attention_bias", false, &c->attention_bias));
    TRY(config_bool(j, where, "mlp_bias", false, &c->mlp_bias));
    int64_t window;
    TRY(config_i64(j, where, "sliding_window", mistral && !json_object_get(j, "sliding_window") ? 4096 : 0, &window));
    if (mistral && window > 0 && window < c->max_positions)
        return st_raise(ST_INPUT, where, "sliding_window %lld is not supported; null is", (long long)window);
    TRY(model_config_check(c, where));
    return rope_from_hf(j, where, c);
}

static bool has_tensor(const gguf_t *g, const char *name) {
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        if (!strcmp(gguf_tensor_at(g, i)->name, name)) return true;
    return false;
}

static status_t read_gguf(const gguf_t *g, const char *where, model_config_t *c) {
    TRY(gguf_need_i64(g, where, "llama", "embedding_length", &c->hidden));
    TRY(gguf_need_i64(g, where, "llama", "block_count", &c->layers));
    TRY(gguf_need_i64(g, where, "llama", "attention.head_count", &c->heads));
    TRY(gguf_need_i64(g, where, "llama", "feed_forward_length", &c->ff));
    TRY(gguf_need_i64(g, where, "llama", "context_length", &c->max_positions));
    c->kv_heads = c->heads;
    gguf_get_i64(g, "llama.attention.head_count_kv", &c->kv_heads);
    c->head_dim = c->heads > 0 ? c->hidden / c->heads : 0;
    gguf_get_i64(g, "llama.attention.key_length", &c->head_dim);
    if (gguf_has(g, "llama.expert_count")) {
        int64_t experts = 0;
        if (gguf_get_i64(g, "llama.expert_count", &experts) && experts > 0)
            return st_raise(ST_INPUT, where, "mixtures of experts are not supported (llama.expert_count %lld)",
                            (long long)experts);
    }
    c->vocab = gguf_arr_count(g, "tokenizer.ggml.tokens");
    for (int64_t i = 0; i < gguf_tensor_count(g); i++)
        if (!strcmp(gguf_tensor_at(g, i)->name, "token_embd.weight") && gguf_tensor_at(g, i)->rank == 2)
            c->vocab = gguf_tensor_at(g, i)->dim[0];
    if (!gguf_get_f64(g, "llama.attention.layer_norm_rms_epsilon", &c->eps))
        return st_raise(ST_INPUT, where, "metadata key 'llama.attention.layer_norm_rms_epsilon' is missing");
    c->tied = !has_tensor(g, "output.weight");
    c->attention_bias = has_tensor(g, "blk.0.attn_q.bias");
    c->mlp_bias = has_tensor(g, "blk.0.ffn_gate.bias");
    TRY(model_config_check(c, where));
    return rope_from_gguf(g, where, "llama", c);
}

static status_t write_hf(const model_t *m, json_t **out) {
    const model_config_t *c = &m->config;
    if (!rope_is_plain(c))
        return st_raise(ST_USAGE, m->path,
                        "its rotary positions are scaled, which a GGUF does not describe as config.json has to; start "
                        "from the Hugging Face model (--model)");
    *out = json_pack("{s:[s], s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b, s:b, s:b}",
                     "architectures", "LlamaForCausalLM", "model_type", "llama", "hidden_act", "silu", "vocab_size",
                     (json_int_t)c->vocab, "hidden_size", (json_int_t)c->hidden, "num_hidden_layers",
                     (json_int_t)c->layers, "num_attention_heads", (json_int_t)c->heads, "num_key_value_heads",
                     (json_int_t)c->kv_heads, "head_dim", (json_int_t)c->head_dim, "intermediate_size",
                     (json_int_t)c->ff, "max_position_embeddings", (json_int_t)c->max_positions, "rms_norm_eps", c->eps,
                     "rope_theta", c->rope_theta, "tie_word_embeddings", (int)c->tied, "attention_bias",
                     (int)c->attention_bias, "mlp_bias", (int)c->mlp_bias);
    return *out ? ST_OK : st_nomem("config.json", 0);
}

static status_t declare_layer(model_t *m, int64_t i) {
    const model_config_t *c = &m->config;
    int *p = m->layer_param + i * LLAMA_PARAMS;
    int64_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, d = c->hidden;
    bool ab = c->attention_bias, mb = c->mlp_bias;
    TRY(model_declare(m, "model.layers.%d.input_layernorm.weight", "blk.%d.attn_norm.weight", i, 1, d, 0, 0,
                      &p[NORM_ATTN]));
    TRY(model_declare_linear(m, "model.layers.%d.self_attn.q_proj", "blk.%d.attn_q", i, q, d, ab, WEIGHT_PERMUTED_Q,
                             &p[SITE_Q]));
    TRY(model_declare_linear(m, "model.layers.%d.self_attn.k_proj", "blk.%d.attn_k", i, kv, d, ab, WEIGHT_PERMUTED_K,
                             &p[SITE_K]));
    TRY(model_declare_linear(m, "model.layers.%d.self_attn.v_proj", "blk.%d.attn_v", i, kv, d, ab, 0, &p[SITE_V]));
    TRY(model_declare_linear(m, "model.layers.%d.self_attn.o_proj", "blk.%d.attn_output", i, d, q, ab, 0, &p[SITE_O]));
    TRY(model_declare(m, "model.layers.%d.post_attention_layernorm.weight", "blk.%d.ffn_norm.weight", i, 1, d, 0, 0,
                      &p[NORM_MLP]));
    TRY(model_declare_linear(m, "model.layers.%d.mlp.gate_proj", "blk.%d.ffn_gate", i, c->ff, d, mb,
                             WEIGHT_FEED_FORWARD, &p[SITE_GATE]));
    TRY(model_declare_linear(m, "model.layers.%d.mlp.up_proj", "blk.%d.ffn_up", i, c->ff, d, mb, WEIGHT_FEED_FORWARD,
                             &p[SITE_UP]));
    return model_declare_linear(m, "model.layers.%d.mlp.down_proj", "blk.%d.ffn_down", i, d, c->ff, mb,
                                WEIGHT_FEED_FORWARD, &p[SITE_DOWN]);
}

static status_t declare(model_t *m) {
    const model_config_t *c = &m->config;
    TRY(model_declare(m, "model.embed_tokens.weight", "token_embd.weight", -1, 2, c->vocab, c->hidden, 0, &m->embed));
    for (int64_t i = 0; i < c->layers; i++) TRY(declare_layer(m, i));
    TRY(model_declare(m, "model.norm.weight", "output_norm.weight", -1, 1, c->hidden, 0, 0, &m->final_norm));
    m->head = m->embed;
    if (c->tied) return ST_OK;
    return model_declare(m, "lm_head.weight", "output.weight", -1, 2, c->vocab, c->hidden, 0, &m->head);
}

/* The MLP's residual. With the next block's norm behind it (*h), except where blocks are replayed: a block begins with
 * its own norm there, so that x alone is kept between two. The final norm is of fewer rows (m_rows). */
static val_t mlp_residual(build_t *b, int64_t i, val_t x, val_t y, val_t *h) {
    const char *name = "mlp residual";
    const int *next = b->model->layer_param + (i + 1) * LLAMA_PARAMS;
    *h = VAL_NONE;
    if (b->options.recompute || i + 1 == b->model->config.layers) return m_add(b, name, x, y);
    return m_add_rmsnorm(b, name, next[NORM_ATTN], x, y, h);
}

/* *h: the norm of x, if it is there already; then that of the result. */
static val_t block(build_t *b, int64_t i, val_t x, val_t *h) {
    const int *p = b->model->layer_param + i * LLAMA_PARAMS;
    if (h->id < 0) *h = m_rmsnorm(b, "attention norm", p[NORM_ATTN], x);
    val_t q = m_rope(b, "rope q", m_linear(b, p[SITE_Q], *h));
    val_t k = m_rope(b, "rope k", m_linear(b, p[SITE_K], *h));
    val_t v = m_linear(b, p[SITE_V], *h);
    val_t o = m_linear(b, p[SITE_O], m_attention(b, i, q, k, v));
    x = m_add_rmsnorm(b, "attention residual", p[NORM_MLP], x, o, h);
    const val_t in[] = {m_linear(b, p[SITE_GATE], *h), m_linear(b, p[SITE_UP], *h)};
    val_t a = tape_emit(b->tape, OP_SILU_MUL, "mlp activation", 2, in, NULL, 0, NULL);
    return mlp_residual(b, i, x, m_linear(b, p[SITE_DOWN], a), h);
}

static void build(build_t *b) {
    val_t x = m_embed(b), h = VAL_NONE;
    for (int64_t i = 0; i < b->model->config.layers; i++) {
        tape_segment_begin(b->tape, b->options.recompute);
        x = block(b, i, x, &h);
        tape_segment_end(b->tape);
    }
    m_tail(b, m_rmsnorm(b, "final norm", b->model->final_norm, m_rows(b, x)));
}

static const char *const model_types[] = {"llama", "mistral", NULL};
static const char *const config_keys[] = {"model_type",
                                          "hidden_act",
                                          "vocab_size",
                                          "hidden_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "head_dim",
                                          "intermediate_size",
                                          "max_position_embeddings",
                                          "rms_norm_eps",
                                          "tie_word_embeddings",
                                          "attention_bias",
                                          "mlp_bias",
                                          "sliding_window",
                                          "rope_theta",
                                          "rope_scaling",
                                          "rope_parameters",
                                          NULL};
static const char *const targets[] = {"q_proj", "v_proj", NULL};
const family_t family_llama = {
    .name = "llama",
    .model_types = model_types,
    .gguf_arch = "llama",
    .config_keys = config_keys,
    .default_targets = targets,
    .layer_params = LLAMA_PARAMS,
    .read_hf = read_hf,
    .read_gguf = read_gguf,
    .write_hf = write_hf,
    .declare = declare,
    .build = build,
};
