/* A base model: its family, hyper-parameters, weights and linear sites.
 *
 * A family (Llama, GPT-2, ...) is one file: how its config is read, which tensors it has under which names, and its
 * builder. Here is what all families share. Shape letters: V vocabulary, D hidden, H heads, K key/value heads, h head
 * size, F feed-forward, L layers. All functions are *local*. */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include "data/weights.h"
#include "kernels/status.h"
#include "train/tape/param.h"

struct build;
struct family;

typedef struct model_config {
    int64_t vocab, hidden, layers, heads, kv_heads, head_dim, ff, max_positions;
    double eps;
    bool tied, attention_bias, mlp_bias;
    double rope_theta;
    double *inv_freq; /* [head_dim/2], scaling applied; NULL without rotary positions */
} model_config_t;

/* How a file's tensor becomes the model's. */
enum {
    WEIGHT_TRANSPOSED = 1, /* Hugging Face stores [in, out] (Conv1D); ours and GGUF's are [out, in] */
    WEIGHT_PERMUTED_Q = 2, /* GGUF interleaves the rotary pairs of every query head ... */
    WEIGHT_PERMUTED_K = 4, /* ... and of every key head */
    WEIGHT_RESIDUAL = 8,   /* initialised smaller by sqrt(2 L): it ends a residual branch (GPT-2, Radford 2019, 2.3) */
    WEIGHT_FEED_FORWARD = 16, /* of the feed-forward layer of a block */
};

typedef struct model_weight {
    int param;
    char *hf, *gguf; /* tensor names; hf is the parameter's name, too */
    int flags;
} model_weight_t;

/* A linear of the model where a method may attach. Lives as long as the model. */
typedef struct site {
    char *module;     /* Hugging Face module path, e.g. model.layers.0.self_attn.q_proj */
    const char *role; /* its last part */
    int64_t layer;
    int64_t in, out;   /* features */
    int weight, bias;  /* parameter indices, bias -1 if none */
    bool conv1d;       /* transformers has it as Conv1D: fan_in_fan_out in PEFT's config */
    bool feed_forward; /* of the feed-forward layer of a block */
} site_t;

typedef struct model {
    const struct family *family;
    model_config_t config;
    param_set_t params; /* base weights first; methods declare theirs after them */
    model_weight_t *weight;
    int64_t n_weight, cap_weight;
    site_t *site;
    int64_t n_site, cap_site;
    int embed, head, final_norm, final_bias, positions; /* parameter indices; head == embed when tied; -1 if none */
    int64_t file_vocab;       /* rows that embedding and head have in the files; config.vocab unless it was grown */
    int64_t new_first, n_new; /* ids of tokens that were added to the base's */
    int new_embed, new_head;  /* their rows as trainable windows, equal when tied; -1: not trained apart */
    int *layer_param;         /* the family's own parameter indices [layers][family->layer_params] */
    uint64_t fingerprint;
    char *path;
} model_t;

typedef struct family {
    const char *name;
    const char *const *model_types;     /* config.json's model_type values, NULL-terminated */
    const char *gguf_arch;              /* general.architecture; NULL if llama.cpp lacks the family */
    const char *const *config_keys;     /* of config.json that read_hf reads, NULL-terminated */
    const char *const *default_targets; /* PEFT's default LoRA modules, NULL-terminated */
    int layer_params;                   /* length of a row of model_t.layer_param */
    status_t (*read_hf)(const json_t *config, const char *where, model_config_t *c);
    status_t (*read_gguf)(const gguf_t *file, const char *where, model_config_t *c);
    /* A config.json for these weights, owned by the caller; ST_USAGE, with the reason, if there is none. */
    status_t (*write_hf)(const model_t *m, json_t **out);
    status_t (*declare)(model_t *m);
    void (*build)(struct build *b); /* emits embedding to final norm; see train/models/build.h */
} family_t;

extern const family_t *const families[]; /* registry.c, NULL-terminated */

/* Reads the configuration and declares the base weights (all frozen) and sites. Call param_set_alloc after the methods
 * have declared theirs, then model_load. ST_INPUT names the file and field. */
status_t model_open(const weights_t *w, dtype_t real, model_t *m);
/* The same for a model without weights, from a config.json alone; `where` is its file, for messages and as the model's
 * path. A key that no family knows but that looks like a mistyped one is an error. Afterwards model_init in the place
 * of model_load. */
status_t model_open_config(const json_t *config, const char *where, dtype_t real, model_t *m);
void model_close(model_t *m);
/* Copies the weights in, except those whose memory is shared; checks every shape, reports missing tensors by name. */
status_t model_load(model_t *m, const weights_t *w);
/* Random weights as transformers initialises them: matrices and embeddings normal with the standard deviation
 * config.initializer_range (0.02), norm weights 1, biases 0. A function of (seed, tensor name) alone. The fingerprint
 * is that of config and seed. ST_INPUT on a bad initializer_range. */
status_t model_init(model_t *m, const json_t *config, uint64_t seed);

/* Names of the rows of added tokens where these are trained apart; no method's tensor begins with this prefix. */
#define MODEL_NEW_PREFIX "special_tokens."
#define MODEL_NEW_EMBED  MODEL_NEW_PREFIX "embedding"
#define MODEL_NEW_HEAD   MODEL_NEW_PREFIX "head"

/* Makes room for n ids behind the base's own, from `first` on: spare rows of a padded vocabulary first, then new ones.
 * After model_open, before param_set_alloc. ST_USAGE when there are too many. */
status_t model_grow(model_t *m, int64_t first, int64_t n);
/* Trains the rows of the added ids, and them alone, in embedding and untied head; nothing where these are trained as a
 * whole. After the methods have declared their tensors, before param_set_alloc. */
status_t model_train_new(model_t *m);
/* Initial rows of the added id new_first + i with the text text[i], after model_load: the mean of the base's own rows
 * plus 0.01 N(0, I) (Korbak et al. 2023), a function of (seed, text). */
void model_init_new(model_t *m, const char *const *text, uint64_t seed);

/* For families: one base tensor. gguf may be NULL where llama.cpp lacks the family. layer < 0: the names are used as
 * they are, else they are formats with the layer. */
status_t model_declare(model_t *m, const char *hf, const char *gguf, int64_t layer, int rank, int64_t rows,
                       int64_t cols, int flags, int *param);
/* One linear: weight [out,in] and, with bias, [out]; records the site. */
status_t model_declare_linear(model_t *m, const char *module, const char *gguf, int64_t layer, int64_t out, int64_t in,
                              bool bias, int flags, int *site);
/* The row of a site's weight in the model's table. */
const model_weight_t *model_weight_of(const model_t *m, const site_t *site);
/* The element at `in_file` order of a permuted tensor: row of the GGUF tensor that holds Hugging Face's row. */
int64_t model_gguf_row(const model_t *m, int flags, int64_t row);

/* Fields of config.json with the class default; ST_INPUT on a wrong type or range. */
status_t config_i64(const json_t *c, const char *where, const char *key, int64_t fallback, int64_t *out);
status_t config_f64(const json_t *c, const char *where, const char *key, double fallback, double *out);
status_t config_bool(const json_t *c, const char *where, const char *key, bool fallback, bool *out);
status_t config_string(const json_t *c, const char *where, const char *key, const char *fallback, const char **out);
status_t gguf_need_i64(const gguf_t *g, const char *where, const char *arch, const char *key, int64_t *out);
/* ST_INPUT when a key that the family does not read looks like one that it reads and that is missing. */
status_t model_config_spelling(const family_t *f, const json_t *config, const char *where);
/* Checks the numbers that every family needs (positive, divisible, bounded). */
status_t model_config_check(const model_config_t *c, const char *where);
/* theta^(-2i/dim) and its scaled forms (formats.md 4.3). */
status_t rope_from_hf(const json_t *config, const char *where, model_config_t *c);
status_t rope_from_gguf(const gguf_t *file, const char *where, const char *arch, model_config_t *c);
/* False when a scaling was applied, which cannot be told from the frequencies. */
bool rope_is_plain(const model_config_t *c);
