/* Llama and GPT-2 in double precision, forward and backward, written as plainly as we could.
 *
 * This is what the engine is measured against, so it shares no code with it: no tape, no kernels, only loops. Read
 * oracle_llama.c from the top to learn what a training step of a language model computes. Nothing here is fast, and
 * since it runs only in tests, a mistake of the caller (a missing tensor, a wrong size) prints a line and aborts.
 *
 * Shapes are row-major. Letters: n tokens of the packed batch, V vocabulary, D hidden size, H query heads, K key/value
 * heads, h head size, F feed-forward size, r rank of a LoRA pair. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

/* A named weight. Names and layouts are Hugging Face's: a linear is [out, in], but [in, out] in GPT-2 (Conv1D).
 * The LoRA pair of a linear M consists of M.lora_A.weight [r, in] and M.lora_B.weight [out, r]: a linear whose pair is
 * there adds scale * B A x. The caller owns both arrays; grad has the shape of value and is added to; NULL: not wanted.
 */
typedef struct oracle_tensor {
    const char *name;
    int64_t count; /* elements */
    const double *value;
    double *grad;
    double scale; /* of lora_A only: lora_alpha / r */
} oracle_tensor_t;

typedef struct oracle_weights {
    const oracle_tensor_t *tensor;
    int64_t n;
} oracle_weights_t;

/* Sequences laid end to end: sequence s has tokens cu_seqlens[s] .. cu_seqlens[s+1]-1, at positions 0, 1, ...; it sees
 * nothing of the others. The token at t is asked for targets[t] (-1: for nothing) with weight weights[t].
 *
 * With prefixes, sequence s also sees rows cu_prefix[s] .. cu_prefix[s+1]-1 of the tensors prefix.<layer>.key and
 * prefix.<layer>.value [cu_prefix[n_seqs], K h], keys as they stand; its positions begin behind its prefix.
 *
 * With slots, the row at t is a token where slot[t] is -1, else row slot[t] of the tensor slot.rows [any, D] stands
 * there in place of a token's embedding. */
typedef struct oracle_batch {
    int64_t n_tokens, n_seqs;
    const int32_t *ids;        /* [n_tokens] */
    const int32_t *cu_seqlens; /* [n_seqs + 1], first 0, last n_tokens */
    const int32_t *targets;    /* [n_tokens] */
    const double *weights;     /* [n_tokens] */
    const int32_t *cu_prefix;  /* [n_seqs + 1], first 0; NULL: no prefixes */
    const int32_t *slot;       /* [n_tokens]; NULL: tokens everywhere */
} oracle_batch_t;

/* Gradients are those of loss_sum, not of the mean: divide by weight_sum for the loss of a step. */
typedef struct oracle_result {
    double loss_sum;   /* sum of weight * -log p(target) */
    double weight_sum; /* over the tokens that have a target */
    double *logits;    /* [n_tokens, V], filled if the caller gives it */
} oracle_result_t;

typedef enum { ORACLE_ROPE_DEFAULT, ORACLE_ROPE_LINEAR, ORACLE_ROPE_LLAMA3 } oracle_rope_type_t;

typedef struct oracle_rope {
    oracle_rope_type_t type;
    double theta;
    double factor; /* linear and llama3 */
    double low, high,
        original_context; /* llama3: low_freq_factor, high_freq_factor, original_max_position_embeddings */
} oracle_rope_t;

/* inv_freq[i], i < head_dim / 2: how fast the pair (i, i + head_dim/2) turns per position. */
void oracle_rope_frequencies(const oracle_rope_t *rope, int64_t head_dim, double *inv_freq);

typedef struct oracle_llama {
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, ff;
    double eps; /* rms_norm_eps */
    bool attention_bias, mlp_bias;
    bool tied;              /* the output head is model.embed_tokens.weight, else lm_head.weight */
    const double *inv_freq; /* [head_dim / 2] */
} oracle_llama_t;

typedef struct oracle_gpt2 {
    int64_t vocab, positions, hidden, layers, heads, ff; /* positions: rows of wpe; head size is hidden / heads */
    double eps;                                          /* layer_norm_epsilon */
    bool tied;                                           /* the output head is transformer.wte.weight */
} oracle_gpt2_t;

/* Forward, then backward if any tensor of `w` wants a gradient. */
void oracle_llama_run(const oracle_llama_t *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r);
void oracle_gpt2_run(const oracle_gpt2_t *c, const oracle_weights_t *w, const oracle_batch_t *b, oracle_result_t *r);
