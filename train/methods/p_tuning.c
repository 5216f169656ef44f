/* P-tuning (Liu et al. 2021, "GPT understands, too", section 3; PEFT's P_TUNING, peft-semantics.md 2.2): the rows of a
 * prompt come from an encoder, which is trained with its input and folded into the rows for export. */
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/methods/prompt_encoder.h"
#include "train/methods/slot.h"

enum { ENCODER_MLP, ENCODER_LSTM, DEFAULT_LAYERS = 2, MAX_HIDDEN = 65536 };
static const char *const encoder_name[] = {[ENCODER_MLP] = "MLP", [ENCODER_LSTM] = "LSTM"};

typedef struct ptuning_cfg {
    slot_cfg_t slot;
    int encoder;
    int64_t hidden, layers; /* 0: not given */
    const char *init_from;
} ptuning_cfg_t;

static const cfg_field_t fields[] = {
    SLOT_KEYS(ptuning_cfg_t),
    {.name = "encoder_reparameterization_type",
     .type = CFG_CHOICE,
     .offset = offsetof(ptuning_cfg_t, encoder),
     .standard = "MLP",
     .choices = "MLP|LSTM",
     .flags = CFG_NOCASE,
     .doc = "what makes the rows"},
    {.name = "encoder_hidden_size",
     .type = CFG_INT,
     .offset = offsetof(ptuning_cfg_t, hidden),
     .min = 1,
     .max = MAX_HIDDEN,
     .doc = "its hidden size; default: the model's"},
    {.name = "encoder_num_layers",
     .type = CFG_INT,
     .offset = offsetof(ptuning_cfg_t, layers),
     .min = 1,
     .max = PROMPT_ENCODER_MAX_LAYERS,
     .doc = "layers of the LSTM; default 2"},
    {.name = "init_from",
     .type = CFG_PATH,
     .offset = offsetof(ptuning_cfg_t, init_from),
     .flags = CFG_FREE,
     .doc = "checkpoint whose rows and encoder to start from"},
    {.name = NULL},
};

typedef struct ptuning {
    slot_t slot;
    prompt_encoder_t encoder;
    int folded; /* parameter [p, D] of a finished adapter without its encoder, -1: there is an encoder */
} ptuning_t;

static void ptuning_close(void *self) {
    ptuning_t *p = self;
    if (!p) return;
    slot_release(&p->slot);
    free(p);
}

static status_t ptuning_new(ptuning_t **out) {
    void *p;
    TRY(buf_calloc(&p, 1, sizeof **out, "prompt"));
    *out = p;
    (*out)->folded = -1;
    return ST_OK;
}

static status_t check_keys(const ptuning_cfg_t *c) {
    if (c->encoder != ENCODER_LSTM && c->layers)
        return st_raise(ST_USAGE, "method", "'encoder_num_layers' is only for the LSTM, the MLP has three; remove it");
    if (c->encoder == ENCODER_LSTM && c->slot.prompts.count)
        return st_raise(ST_USAGE, "method",
                        "an LSTM runs through its rows in order, so that named prompts would depend on each other; use "
                        "encoder_reparameterization_type: MLP, or remove 'prompts'");
    return ST_OK;
}

static status_t ptuning_open(const void *cfg, model_t *m, void **self) {
    const ptuning_cfg_t *c = cfg;
    ptuning_t *p = NULL;
    status_t st = ST_OK;
    TRY(check_keys(c));
    TRY(ptuning_new(&p));
    TRY_GOTO(slot_open(&c->slot, &p->slot), failed);
    p->encoder.lstm = c->encoder == ENCODER_LSTM;
    p->encoder.hidden = c->hidden ? c->hidden : m->config.hidden;
    p->encoder.layers = c->layers ? (int)c->layers : DEFAULT_LAYERS;
    TRY_GOTO(prompt_encoder_declare(&p->encoder, m, p->slot.prompts * p->slot.tokens), failed);
    *self = p;
    return ST_OK;
failed:
    ptuning_close(p);
    return st;
}

static status_t read_number(const adapter_t *a, const char *key, int64_t most, int64_t standard, int64_t *out) {
    const json_t *v = json_object_get(adapter_config(a), key);
    *out = v && !json_is_null(v) ? json_integer_value(v) : standard;
    if (*out < 1 || *out > most)
        return st_raise(ST_INPUT, adapter_path(a), "adapter_config: %s must be a number between 1 and %lld", key,
                        (long long)most);
    return ST_OK;
}

static status_t read_encoder(const adapter_t *a, const model_t *m, prompt_encoder_t *e) {
    const char *type = json_string_value(json_object_get(adapter_config(a), "encoder_reparameterization_type"));
    int64_t layers;
    int kind = ENCODER_LSTM;
    while (kind >= 0 && strcmp(type ? type : "MLP", encoder_name[kind])) kind--;
    if (kind < 0)
        return st_raise(ST_INPUT, adapter_path(a),
                        "adapter_config: encoder_reparameterization_type must be MLP or LSTM");
    e->lstm = kind == ENCODER_LSTM;
    TRY(read_number(a, "encoder_hidden_size", MAX_HIDDEN, m->config.hidden, &e->hidden));
    TRY(read_number(a, "encoder_num_layers", PROMPT_ENCODER_MAX_LAYERS, DEFAULT_LAYERS, &layers));
    e->layers = (int)layers;
    return ST_OK;
}

static status_t ptuning_open_adapter(const adapter_t *a, model_t *m, void **self) {
    ptuning_t *p = NULL;
    status_t st = ST_OK;
    TRY(ptuning_new(&p));
    TRY_GOTO(slot_open_adapter(a, m, &p->slot), failed);
    TRY_GOTO(read_encoder(a, m, &p->encoder), failed);
    if (adapter_shape(a, "prompt_embeddings").rank)
        TRY_GOTO(slot_declare(&p->slot, m, "prompt_embeddings", &p->folded), failed);
    else
        TRY_GOTO(prompt_encoder_declare(&p->encoder, m, p->slot.prompts * p->slot.tokens), failed);
    *self = p;
    return ST_OK;
failed:
    ptuning_close(p);
    return st;
}

static status_t ptuning_place(void *self, virtual_layout_t *layout) {
    return slot_place(&((ptuning_t *)self)->slot, layout);
}

static status_t ptuning_init(void *self, model_t *m, const method_init_t *in) {
    prompt_encoder_init(&((ptuning_t *)self)->encoder, m, in->seed);
    return ST_OK;
}

static begun_t ptuning_begin(void *self, build_t *b) {
    const ptuning_t *p = self;
    return (begun_t){{p->folded < 0 ? prompt_encoder_emit(&p->encoder, b->tape) : tape_param(b->tape, p->folded)}};
}

static val_t ptuning_embed(void *self, build_t *b, const begun_t *begun, val_t x) {
    const ptuning_t *p = self;
    return slot_embed(&p->slot, b, begun->value[0], x);
}

static hook_t ptuning_hook(void *self) {
    return (hook_t){.self = self, .begin = ptuning_begin, .embed = ptuning_embed};
}

static const char *ptuning_init_from(const void *cfg) {
    return ((const ptuning_cfg_t *)cfg)->init_from;
}

static status_t ptuning_start(void *self, model_t *m, adapter_t *a, int first, int last) {
    const ptuning_t *p = self;
    TRY(adapter_find(a, "P_TUNING"));
    if (adapter_shape(a, "prompt_embeddings").rank)
        return st_raise(ST_INPUT, adapter_path(a),
                        "holds the rows that an encoder made, but not the encoder; prompt_tuning can start from them, "
                        "p_tuning only from a checkpoint");
    TRY(slot_same_prompts(&p->slot, a));
    return adapter_load(a, m, first, last);
}

static status_t ptuning_describe(const void *self, const model_t *m, json_t **out) {
    const ptuning_t *p = self;
    const prompt_encoder_t *e = &p->encoder;
    json_t *more = json_pack("{s:s, s:I, s:i, s:f}", "encoder_reparameterization_type",
                             encoder_name[e->lstm ? ENCODER_LSTM : ENCODER_MLP], "encoder_hidden_size",
                             (json_int_t)e->hidden, "encoder_num_layers", e->layers, "encoder_dropout", 0.0);
    return slot_describe(&p->slot, m, "P_TUNING", more, out);
}

static status_t ptuning_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out) {
    const ptuning_t *p = self;
    json_t *config = NULL;
    float *made = NULL;
    if (p->folded < 0) TRY(prompt_encoder_fold(&p->encoder, m, &made));
    status_t st = ptuning_describe(self, m, &config);
    if (st == ST_OK)
        st = slot_result(&p->slot, m, config, made ? made : m->params.item[p->folded].value.data, choice, out);
    free(made);
    return st;
}

const method_t method_p_tuning = {
    .section = {"p_tuning", fields, sizeof(ptuning_cfg_t)},
    .peft_type = "P_TUNING",
    .doc = "rows among the token embeddings, made by a trained encoder",
    .open = ptuning_open,
    .open_adapter = ptuning_open_adapter,
    .close = ptuning_close,
    .place = ptuning_place,
    .init = ptuning_init,
    .hook = ptuning_hook,
    .init_from = ptuning_init_from,
    .start = ptuning_start,
    .describe = ptuning_describe,
    .result = ptuning_result,
    .engines = slot_engines,
};
