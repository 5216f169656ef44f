/* Building a tape for a model: what the run needs of it, and the site helpers that family files call.
 *
 * A family file never names a method. It calls helpers at the places where methods may act; a helper asks the attached
 * hooks in order. With no hooks the helpers emit the plain model. All functions are *local*. */
#pragma once
#include "data/virtual.h"
#include "train/models/model.h"
#include "train/tape/tape.h"

struct build;

enum { BUILD_MAX_HOOKS = 8 };

/* What a method computes once a pass, before the model: the rows of an encoder. */
typedef struct begun {
    val_t value[2];
} begun_t;

/* The slots a method may fill; NULL leaves the site untouched. `self` is the method's own state, `begun` what its
 * begin made. */
typedef struct hook {
    void *self;
    begun_t (*begin)(void *self, struct build *b);
    /* x [N,D] token embeddings, in which rows with b->slot >= 0 wait for a virtual token's -> x' */
    val_t (*embed)(void *self, struct build *b, const begun_t *begun, val_t x);
    /* *pk, *pv [P,K*h]: keys and values of prefix rows b->prefix of this layer, VAL_NONE before the first method -> the
     * same with this method's rows put in */
    void (*kv)(void *self, struct build *b, const begun_t *begun, int64_t layer, val_t *pk, val_t *pv);
    /* x of a site -> y in place of the base's linear, whose weights are then not read; VAL_NONE: not replaced. Of
     * several methods the first that replaces a site has it. */
    val_t (*replace)(void *self, struct build *b, const site_t *site, val_t x);
    /* y = linear(x) of a site, the base's or what replaced it -> y' */
    val_t (*linear)(void *self, struct build *b, const site_t *site, val_t x, val_t y);
} hook_t;

/* What is minimised, where it is not the weighted likelihood of the tokens (train/objectives). `cfg` is the objective's
 * own configuration. */
#define GOAL_SCOPE "objective." /* of the tensors that it declares: checkpoints hold them, but they are no method's */
typedef struct goal {
    const void *cfg;
    int param; /* that it declared on the model, -1: none */
    /* The weight of a token for the tape, from its weight in the data and its sequence's score. NULL: the same. */
    float (*weigh)(const void *cfg, double score, float weight);
    /* Emits the loss of normed rows x [M,D]: to be handed to m_loss. It may read b->rewards. NULL: the plain one. */
    void (*tail)(const struct goal *g, struct build *b, val_t x, val_t head);
} goal_t;

typedef enum build_tail {
    TAIL_LOSS,   /* rows -> norm -> the goal's loss, or linear_cross_entropy: loss and nll */
    TAIL_LOGITS, /* rows -> norm -> linear: logits of the chosen rows */
} build_tail_t;

typedef struct build_options {
    build_tail_t tail;
    const goal_t *goal;    /* of TAIL_LOSS; NULL: likelihood, weighted as the data say */
    bool with_grad;        /* plan a backward pass */
    bool recompute;        /* replay each block in backward instead of keeping its activations */
    bool cached;           /* attention over a key/value cache: generation */
    int64_t slots, places; /* of the cache */
    int32_t shared;        /* rows that batches hold once at their front (batch_t.share); 0: none */
    int32_t shared_first;  /* the number of the first of them among prefix rows */
    tape_sizes_t capacity;
} build_options_t;

/* A model's tape with its inputs and results. Inputs are filled through tape_data. */
typedef struct build {
    tape_t *tape;
    model_t *model;
    const hook_t *hook;
    int n_hook;
    build_options_t options;
    val_t ids, positions, cu, past, key; /* [N] i32, [N] i32, [S+1] i32, [S] i32, [N] u64 */
    val_t slot;                          /* [N] i32 number of a virtual row, -1: a token; VAL_NONE: no method embeds */
    val_t prefix, cu_prefix;             /* [P] i32, [S+1] i32; VAL_NONE: there are no prefix rows */
    val_t label[VIRTUAL_MAX_FIELDS];     /* [S] i32 by field of the layout, declared on first use (m_label) */
    val_t rows, targets, weights;        /* [M] i32, [M] i32, [M] f32 */
    val_t rewards;                       /* [M] f32 minus the sequence's score; VAL_NONE: no tail of a goal */
    begun_t begun[BUILD_MAX_HOOKS];
    val_t *cache; /* [L] key/value caches of a cached tape */
    val_t table;  /* rotary table, emitted on first use */
    val_t loss, nll, logits;
    val_t more_loss; /* a second loss that is added; VAL_NONE: none */
} build_t;

/* Emits and plans. On failure nothing is left open. */
status_t build_open(model_t *m, const backend_t *backend, const hook_t *hook, int n_hook, build_options_t options,
                    build_t *b);
void build_close(build_t *b);

/* For methods: [S] i32, the sequences' labels in a field of the layout. */
val_t m_label(build_t *b, int field);

/* ---- site helpers, for families ---- */
val_t m_embed(build_t *b);                     /* token embedding [N,D] */
val_t m_linear(build_t *b, int site, val_t x); /* x W^T + b, or what replaces it, and what methods add */
val_t m_rmsnorm(build_t *b, const char *name, int weight, val_t x);
val_t m_layernorm(build_t *b, const char *name, int weight, int bias, val_t x);
val_t m_rope(build_t *b, const char *name, val_t x);
val_t m_attention(build_t *b, int64_t layer, val_t q, val_t k, val_t v); /* scale 1/sqrt(h) */
val_t m_add(build_t *b, const char *name, val_t a, val_t y);             /* residual */
/* A residual and the norm behind it at once: the sum, and in *h its norm. The same numbers as m_add and the norm. */
val_t m_add_rmsnorm(build_t *b, const char *name, int weight, val_t a, val_t y, val_t *h);
val_t m_add_layernorm(build_t *b, const char *name, int weight, int bias, val_t a, val_t y, val_t *h);
val_t m_rows(build_t *b, val_t x); /* the rows whose output is needed [M,D] */
void m_tail(build_t *b, val_t x);  /* head, and loss or logits, of normed rows */
/* For goals: the likelihood of the targets with these weights, and another loss beside it (VAL_NONE: none). */
void m_loss(build_t *b, val_t x, val_t head, val_t weights, val_t more);
