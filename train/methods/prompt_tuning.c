/* Prompt tuning (Lester et al. 2021, section 2; PEFT's PROMPT_TUNING, peft-semantics.md 2.2): the rows of
 * `prompt_embeddings` [n p, D] themselves are trained. PEFT keeps the same rows under this name in its files; its
 * training state calls them prompt_encoder.default.embedding.weight. */
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/tape/initial.h"
#include "train/methods/prompt_init.h"
#include "train/methods/slot.h"

typedef struct prompt_cfg {
    slot_cfg_t slot;
    const char *init; /* NULL with init_from */
    const char *text;
    cfg_strings_t labels;
    const char *init_from;
} prompt_cfg_t;

/* The initialisation is free to differ in a continued run: the rows come from its checkpoint. */
static const cfg_field_t fields[] = {
    SLOT_KEYS(prompt_cfg_t),
    {.name = "prompt_tuning_init",
     .type = CFG_STRING,
     .offset = offsetof(prompt_cfg_t, init),
     .standard = "RANDOM",
     .choices = "RANDOM|SAMPLE_VOCAB|TEXT|CLASS_LABELS",
     .exclusive_with = "init_from",
     .flags = CFG_FREE | CFG_NOCASE,
     .doc = "initial rows: uniform in +-0.5, of random tokens, of a text's tokens, of labels"},
    {.name = "prompt_tuning_init_text",
     .type = CFG_STRING,
     .offset = offsetof(prompt_cfg_t, text),
     .flags = CFG_FREE,
     .doc = "the text of TEXT"},
    {.name = "prompt_tuning_init_labels",
     .type = CFG_STRINGS,
     .offset = offsetof(prompt_cfg_t, labels),
     .flags = CFG_FREE,
     .doc = "the labels of CLASS_LABELS"},
    {.name = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(prompt_cfg_t, init_from),
     .exclusive_with = "prompt_tuning_init",
     .flags = CFG_FREE,
     .doc = "PEFT directory or checkpoint whose rows to start from"},
    {.name = NULL},
};

typedef struct prompt {
    slot_t slot;
    int table;               /* parameter */
    const prompt_cfg_t *cfg; /* borrowed until the initial values are made; NULL for a finished adapter */
} prompt_t;

static void prompt_close(void *self) {
    prompt_t *p = self;
    if (!p) return;
    slot_release(&p->slot);
    free(p);
}

/* A key that belongs to one value of prompt_tuning_init alone. */
static status_t check_partner(const prompt_cfg_t *c, const char *init, bool given, const char *key) {
    bool chosen = c->init && !strcmp(c->init, init);
    if (chosen && !given) return st_raise(ST_USAGE, "method", "prompt_tuning_init: %s needs '%s'; give it", init, key);
    if (!chosen && given)
        return st_raise(ST_USAGE, "method", "'%s' is only for prompt_tuning_init: %s; remove it", key, init);
    return ST_OK;
}

static status_t check_keys(const prompt_cfg_t *c) {
    TRY(check_partner(c, "TEXT", c->text != NULL, "prompt_tuning_init_text"));
    TRY(check_partner(c, "CLASS_LABELS", c->labels.count > 0, "prompt_tuning_init_labels"));
    if (c->labels.count > c->slot.num_virtual_tokens)
        return st_raise(ST_USAGE, "method",
                        "%d labels in prompt_tuning_init_labels for %lld rows; raise num_virtual_tokens",
                        c->labels.count, (long long)c->slot.num_virtual_tokens);
    return ST_OK;
}

static status_t prompt_new(prompt_t **out) {
    void *p;
    TRY(buf_calloc(&p, 1, sizeof **out, "prompt"));
    *out = p;
    return ST_OK;
}

static status_t prompt_open(const void *cfg, model_t *m, void **self) {
    prompt_t *p = NULL;
    status_t st = ST_OK;
    TRY(check_keys(cfg));
    TRY(prompt_new(&p));
    p->cfg = cfg;
    TRY_GOTO(slot_open(&p->cfg->slot, &p->slot), failed);
    TRY_GOTO(slot_declare(&p->slot, m, "prompt_embeddings", &p->table), failed);
    *self = p;
    return ST_OK;
failed:
    prompt_close(p);
    return st;
}

static status_t prompt_open_adapter(const adapter_t *a, model_t *m, void **self) {
    prompt_t *p = NULL;
    status_t st = ST_OK;
    TRY(prompt_new(&p));
    TRY_GOTO(slot_open_adapter(a, m, &p->slot), failed);
    TRY_GOTO(slot_declare(&p->slot, m, "prompt_embeddings", &p->table), failed);
    *self = p;
    return ST_OK;
failed:
    prompt_close(p);
    return st;
}

static status_t prompt_place(void *self, virtual_layout_t *layout) {
    return slot_place(&((prompt_t *)self)->slot, layout);
}

static status_t prompt_init(void *self, model_t *m, const method_init_t *in) {
    const prompt_t *p = self;
    const param_t *table = &m->params.item[p->table];
    if (p->cfg->text) return prompt_init_text(m, table, p->slot.tokens, in, p->cfg->text);
    if (p->cfg->labels.count) return prompt_init_labels(m, table, p->slot.tokens, in, &p->cfg->labels);
    if (!strcmp(p->cfg->init, "SAMPLE_VOCAB"))
        prompt_init_sample(m, table, in->seed);
    else
        initial_uniform(table, 0.5, in->seed);
    return ST_OK;
}

static val_t prompt_embed(void *self, build_t *b, const begun_t *begun, val_t x) {
    const prompt_t *p = self;
    (void)begun;
    return slot_embed(&p->slot, b, tape_param(b->tape, p->table), x);
}

static hook_t prompt_hook(void *self) {
    return (hook_t){.self = self, .embed = prompt_embed};
}

static const char *prompt_init_from(const void *cfg) {
    return ((const prompt_cfg_t *)cfg)->init_from;
}

/* The part that has rows; P-tuning's folded rows are a prompt like any other. */
static status_t select_rows(adapter_t *a) {
    for (int i = 0; i < adapter_parts(a); i++) {
        adapter_select(a, i);
        if (adapter_shape(a, "prompt_embeddings").rank) return ST_OK;
    }
    return st_raise(ST_INPUT, adapter_path(a),
                    "holds no prompt_embeddings to start from; a checkpoint of p_tuning gives them by graft export");
}

static status_t prompt_start(void *self, model_t *m, adapter_t *a, int first, int last) {
    const prompt_t *p = self;
    TRY(select_rows(a));
    TRY(slot_same_prompts(&p->slot, a));
    return adapter_load(a, m, first, last);
}

/* Exported rows are complete, so PEFT is told RANDOM: TEXT would make it ask for a tokenizer. */
static status_t prompt_describe(const void *self, const model_t *m, json_t **out) {
    const prompt_t *p = self;
    json_t *more = json_pack("{s:s, s:n, s:n, s:n}", "prompt_tuning_init", "RANDOM", "prompt_tuning_init_text",
                             "tokenizer_name_or_path", "tokenizer_kwargs");
    return slot_describe(&p->slot, m, "PROMPT_TUNING", more, out);
}

static status_t prompt_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out) {
    const prompt_t *p = self;
    json_t *config = NULL;
    TRY(prompt_describe(self, m, &config));
    return slot_result(&p->slot, m, config, m->params.item[p->table].value.data, choice, out);
}

const method_t method_prompt_tuning = {
    .section = {"prompt_tuning", fields, sizeof(prompt_cfg_t)},
    .peft_type = "PROMPT_TUNING",
    .doc = "trained rows among the token embeddings",
    .open = prompt_open,
    .open_adapter = prompt_open_adapter,
    .close = prompt_close,
    .place = prompt_place,
    .init = prompt_init,
    .hook = prompt_hook,
    .init_from = prompt_init_from,
    .start = prompt_start,
    .describe = prompt_describe,
    .result = prompt_result,
    .engines = slot_engines,
};
