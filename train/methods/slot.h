/* What methods with trained prompts share (mechanism SLOT): every sequence gets p rows whose embeddings come from a
 * table [n p, D] instead of the vocabulary: X' = [P; E[x]] (Lester et al. 2021). With n > 1 named prompts an example
 * takes the block of its label in a field, so that one frozen base serves n tasks in one batch.
 *
 * A prompt is opened from a configuration or a finished adapter and owns its copies of names. All functions are
 * *local*. */
#pragma once
#include "train/methods/method.h"

enum { SLOT_MAX_TOKENS = 65536 };

typedef struct slot {
    int64_t tokens;        /* p */
    int64_t prompts;       /* n */
    virtual_place_t place; /* one of the three places of slots */
    char *field;           /* NULL: one prompt for every example, n = 1 */
    char **value;          /* [n] labels; NULL without a field */
    int32_t first;         /* number of row 0 in the layout */
    int layout_field;      /* index in the layout, -1 without a field */
} slot_t;

/* The keys of a configuration; a method's struct has them as its member `slot`. */
typedef struct slot_cfg {
    int64_t num_virtual_tokens;
    int position; /* index into the choices */
    cfg_fields_t prompts;
} slot_cfg_t;

#define SLOT_KEYS(cfg_t)                                                                                               \
    {.name = "num_virtual_tokens",                                                                                     \
     .type = CFG_INT,                                                                                                  \
     .offset = offsetof(cfg_t, slot.num_virtual_tokens),                                                               \
     .min = 1,                                                                                                         \
     .max = SLOT_MAX_TOKENS,                                                                                           \
     .flags = CFG_REQUIRED,                                                                                            \
     .doc = "rows of a prompt"},                                                                                       \
        {.name = "position",                                                                                           \
         .type = CFG_CHOICE,                                                                                           \
         .offset = offsetof(cfg_t, slot.position),                                                                     \
         .standard = "before",                                                                                         \
         .choices = "before|after_bos|after_prompt",                                                                   \
         .doc = "place among the tokens of a sequence"},                                                               \
    {                                                                                                                  \
        .name = "prompts", .type = CFG_FIELDS, .offset = offsetof(cfg_t, slot.prompts),                                \
        .doc = "{field, values}: one prompt for each value of a field of the examples"                                 \
    }

/* ST_USAGE when the keys do not fit together. */
status_t slot_open(const slot_cfg_t *cfg, slot_t *out);
/* From num_virtual_tokens and "graft" of a finished adapter; other adapters of PEFT stand before everything. ST_INPUT,
 * also for what would change the mathematics and is not supported. Release it also after a failure. */
status_t slot_open_adapter(const adapter_t *a, const model_t *m, slot_t *out);
void slot_release(slot_t *s);
status_t slot_place(slot_t *s, virtual_layout_t *layout);
/* Declares `name` [n p, D]. */
status_t slot_declare(const slot_t *s, model_t *m, const char *name, int *param);
/* Puts the rows of table [n p, D] into x. */
val_t slot_embed(const slot_t *s, build_t *b, val_t table, val_t x);

/* PEFT's keys of all prompts, those in `more` (taken; NULL: no memory), and "graft" where an adapter says more than
 * PEFT can. */
status_t slot_describe(const slot_t *s, const model_t *m, const char *peft_type, json_t *more, json_t **out);
/* ST_INPUT unless the selected part has the same named prompts: they are told apart by their order alone. */
status_t slot_same_prompts(const slot_t *s, const adapter_t *a);
/* `prompt_embeddings` [p, D]: the chosen block of table [n p, D], float32. Takes `config`, a description, also on
 * failure. ST_USAGE with the names when several exist and none was chosen. */
status_t slot_result(const slot_t *s, const model_t *m, json_t *config, const float *table,
                     const method_choice_t *choice, method_result_t *out);
status_t slot_engines(const void *self, const model_t *m, FILE *out);
