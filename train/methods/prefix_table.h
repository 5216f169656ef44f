/* What prefix_tuning and control_prefix share: one table whose rows are keys and values of every layer (Li & Liang
 * 2021; PEFT's layout, peft-semantics.md 2.2), cut into blocks. A sequence gets the rows of all blocks in their order;
 * of a block with a field, the rows of its example's label (Clive et al. 2022).
 *
 * Direct: a tensor [rows, W], W = 2 L K h, flat index ((layer * 2 + {0: keys, 1: values}) * K + head) * h + d.
 * Projected: T = W2 tanh(W1 E + b1) + b2 with E [rows, K h], W1 [encoder, K h], W2 [W, encoder], made once a pass;
 * exports hold T alone. Keys are taken as they stand, after position encoding; text positions begin behind the prefix.
 *
 * An example without a known label takes rows whose E is zero: T = 0 in the direct form, else W2 tanh(b1) + b2.
 *
 * A table is opened, gets its blocks and is declared; it owns all but `text`. All functions are *local*. */
#pragma once
#include <stdio.h>
#include "train/methods/method.h"

enum { PREFIX_MAX_TOKENS = 65536, PREFIX_MAX_BLOCKS = VIRTUAL_MAX_FIELDS + 1 };

typedef enum prefix_init { PREFIX_RANDOM, PREFIX_ZERO, PREFIX_TEXT } prefix_init_t;

typedef struct prefix_block {
    char *field;  /* NULL: the same rows for every example */
    char **value; /* [n_value] labels; a block without a field has one nameless value */
    int n_value;
    int64_t count; /* rows a sequence gets */
    int64_t first; /* row of the table */
    bool optional; /* an example without a known label is legal */
    int layout_field;
} prefix_block_t;

typedef struct prefix_table {
    prefix_block_t block[PREFIX_MAX_BLOCKS];
    int n_block;
    int64_t rows, missing;        /* of the table; of an optional block's size at most, 0: no block is optional */
    int64_t layers, kv_heads, kv; /* kv: K h */
    int64_t encoder;              /* hidden size of the projection, 0: direct */
    int table, zero;              /* parameters: the tensor or E; E's zero rows, -1: none */
    int weight[2], bias[2];       /* of the projection */
    prefix_init_t init;
    const char *text; /* borrowed until the initial values are made */
    int32_t first;    /* number of row 0 in the layout */
} prefix_table_t;

#define PREFIX_INIT_CHOICES "random|zero|text" /* in the order of prefix_init_t */

/* The keys of a configuration that both methods have; a method's struct has them as its member `prefix`. */
typedef struct prefix_cfg {
    int64_t num_virtual_tokens, encoder_hidden_size; /* the latter 0: not given */
    bool prefix_projection;
    int init_weights;                  /* prefix_init_t */
    const char *init_text, *init_from; /* NULL: not given; init_text is kept until the initial values are made */
} prefix_cfg_t;

#define PREFIX_KEYS(cfg_t, tokens_doc)                                                                                 \
    {.name = "num_virtual_tokens",                                                                                     \
     .type = CFG_INT,                                                                                                  \
     .offset = offsetof(cfg_t, prefix.num_virtual_tokens),                                                             \
     .min = 1,                                                                                                         \
     .max = PREFIX_MAX_TOKENS,                                                                                         \
     .flags = CFG_REQUIRED,                                                                                            \
     .doc = tokens_doc},                                                                                               \
        {.name = "prefix_projection",                                                                                  \
         .type = CFG_BOOL,                                                                                             \
         .offset = offsetof(cfg_t, prefix.prefix_projection),                                                          \
         .standard = "false",                                                                                          \
         .doc = "make all of them by one two-layer tanh network, which exports fold away"},                            \
        {.name = "encoder_hidden_size",                                                                                \
         .type = CFG_INT,                                                                                              \
         .offset = offsetof(cfg_t, prefix.encoder_hidden_size),                                                        \
         .min = 1,                                                                                                     \
         .max = PREFIX_MAX_TOKENS,                                                                                     \
         .doc = "hidden size of that network; default: the width of a key"},                                           \
        {.name = "init_weights",                                                                                       \
         .type = CFG_CHOICE,                                                                                           \
         .offset = offsetof(cfg_t, prefix.init_weights),                                                               \
         .standard = "random",                                                                                         \
         .choices = PREFIX_INIT_CHOICES,                                                                               \
         .doc = "normal random values, zero, or (rows that a label adds: zero) the keys and values of init_text"},     \
        {.name = "init_text",                                                                                          \
         .type = CFG_STRING,                                                                                           \
         .offset = offsetof(cfg_t, prefix.init_text),                                                                  \
         .doc = "text whose keys and values in the base model are the start; cut or repeated to num_virtual_tokens"},  \
    {                                                                                                                  \
        .name = "init_from", .type = CFG_PATH, .offset = offsetof(cfg_t, prefix.init_from), .flags = CFG_FREE,         \
        .doc = "adapter or checkpoint whose weights to start from"                                                     \
    }

/* For training: the table with the blocks that `add` gives it, declared on the model. cfg is the method's whole struct,
 * keys its member. ST_USAGE when keys exclude each other. Release nothing after a failure. */
typedef status_t (*prefix_add_t)(const void *cfg, prefix_table_t *t);
status_t prefix_table_train(const void *cfg, const prefix_cfg_t *keys, prefix_add_t add, model_t *m, void **self);
/* For this model. encoder: 0 for the direct form. */
status_t prefix_table_open(const model_t *m, int64_t encoder, prefix_table_t **out);
/* Copies names. field NULL: rows for every example. */
status_t prefix_table_add(prefix_table_t *t, const char *field, const char *const *value, int n, int64_t count,
                          bool optional);
status_t prefix_table_declare(prefix_table_t *t, model_t *m);
/* Rows of a sequence. */
int64_t prefix_table_count(const prefix_table_t *t);
/* The projected rows of the parameter `e` [n, K h]. */
val_t prefix_table_encode(const prefix_table_t *t, tape_t *tape, int e);

/* Members of method_t; self is a prefix_table_t. */
void prefix_table_close(void *self);
status_t prefix_table_place(void *self, virtual_layout_t *layout);
status_t prefix_table_init(void *self, model_t *m, const method_init_t *in);
hook_t prefix_table_hook(void *self);

/* prefix_text.c: the keys and values that the frozen base has for `text` with what the tokenizer puts in front, cut or
 * repeated to n tokens at positions 0 to n - 1, as rows [n, W] of the model's type. ST_USAGE when the text has no
 * tokens or the model not enough positions. */
status_t prefix_text_rows(model_t *m, const method_init_t *in, const char *text, int64_t n, void *rows);

/* prefix_config.c: what finished tables say about themselves. */
status_t prefix_table_describe(const prefix_table_t *t, const model_t *m, const char *peft_type, json_t **out);
/* From "graft" of a description, or (`plain`) from PEFT's own PREFIX_TUNING. ST_INPUT. */
status_t prefix_table_open_adapter(const adapter_t *a, bool plain, model_t *m, prefix_table_t **out);
/* The rows of one label for every field as PEFT's PREFIX_TUNING. */
status_t prefix_table_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out);
status_t prefix_table_engines(const void *self, const model_t *m, FILE *out);
