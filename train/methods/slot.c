#include "train/methods/slot.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "kernels/ops/splice.h"

static const struct {
    virtual_place_t place;
    const char *name, *stand, *peft_lacks;
} positions[] = {
    {VIRTUAL_FIRST, "before", "in front of everything, BOS too", NULL},
    {VIRTUAL_AFTER_BOS, "after_bos",
     "behind BOS, in front of the text (in front of everything where the tokenizer adds no BOS)",
     "PEFT puts prompts in front of everything, this one was trained behind BOS; PEFT needs position: before"},
    {VIRTUAL_AFTER_PROMPT, "after_prompt",
     "behind the prompt, in front of the completion; in a text without a prompt behind BOS",
     "PEFT puts prompts in front of everything, this one was trained behind the text's prompt; PEFT needs position: "
     "before"},
};
enum { POSITIONS = sizeof positions / sizeof *positions };

static int position_of(virtual_place_t place) {
    int i = 0;
    while (i + 1 < POSITIONS && positions[i].place != place) i++;
    return i;
}

void slot_release(slot_t *s) {
    for (int64_t i = 0; s->value && i < s->prompts; i++) free(s->value[i]);
    free(s->value);
    free(s->field);
    *s = (slot_t){0};
}

static status_t name_prompts(slot_t *s, const char *field, int64_t n) {
    void *memory;
    s->field = buf_strdup(field);
    if (!s->field) return ST_NOMEM;
    TRY(buf_calloc(&memory, n, sizeof *s->value, "names of prompts"));
    s->value = memory;
    s->prompts = n;
    return ST_OK;
}

static status_t copy_labels(const cfg_choice_field_t *f, slot_t *s) {
    TRY(name_prompts(s, f->field, f->values.count));
    for (int i = 0; i < f->values.count; i++)
        if (!(s->value[i] = buf_strdup(f->values.items[i]))) return ST_NOMEM;
    return ST_OK;
}

status_t slot_open(const slot_cfg_t *cfg, slot_t *s) {
    *s = (slot_t){
        .tokens = cfg->num_virtual_tokens, .prompts = 1, .place = positions[cfg->position].place, .layout_field = -1};
    const cfg_fields_t *p = &cfg->prompts;
    if (p->count > 1)
        return st_raise(ST_USAGE, "method.prompts", "names %d fields; an example chooses its prompt by one", p->count);
    if (!p->count) return ST_OK;
    if (p->items[0].num_virtual_tokens)
        return st_raise(ST_USAGE, "method.prompts",
                        "all prompts have the method's num_virtual_tokens; remove it from the prompts");
    return copy_labels(&p->items[0], s);
}

/* What would change the mathematics and is not supported here. */
static status_t refuse_variants(const adapter_t *a, const model_t *m) {
    const json_t *c = adapter_config(a), *modules = json_object_get(c, "num_transformer_submodules"),
                 *width = json_object_get(c, "token_dim"), *save = json_object_get(c, "modules_to_save");
    if (json_is_integer(modules) && json_integer_value(modules) != 1)
        return st_raise(ST_INPUT, adapter_path(a), "adapter_config: num_transformer_submodules must be 1, found %lld",
                        (long long)json_integer_value(modules));
    if (json_is_integer(width) && json_integer_value(width) != m->config.hidden)
        return st_raise(ST_INPUT, adapter_path(a), "adapter_config: token_dim is %lld, the model has %lld",
                        (long long)json_integer_value(width), (long long)m->config.hidden);
    if (save && !json_is_null(save))
        return st_raise(ST_INPUT, adapter_path(a), "adapter_config: 'modules_to_save' is not supported");
    return ST_OK;
}

static status_t read_position(const adapter_t *a, const json_t *graft, slot_t *s) {
    const json_t *v = json_object_get(graft, "position");
    const char *name = json_is_string(v) ? json_string_value(v) : v ? "" : "before";
    for (int i = 0; i < POSITIONS; i++)
        if (!strcmp(positions[i].name, name)) {
            s->place = positions[i].place;
            return ST_OK;
        }
    return st_raise(ST_INPUT, adapter_path(a), "graft.position is none of before, after_bos, after_prompt");
}

static status_t read_prompts(const adapter_t *a, const json_t *graft, slot_t *s) {
    const json_t *prompts = json_object_get(graft, "prompts");
    if (!prompts || json_is_null(prompts)) return ST_OK;
    const char *field = json_string_value(json_object_get(prompts, "field"));
    const json_t *values = json_object_get(prompts, "values");
    if (!field || !json_array_size(values))
        return st_raise(ST_INPUT, adapter_path(a), "graft.prompts must be {field, values}");
    TRY(name_prompts(s, field, (int64_t)json_array_size(values)));
    for (size_t i = 0; i < json_array_size(values); i++) {
        const char *value = json_string_value(json_array_get(values, i));
        if (!value) return st_raise(ST_INPUT, adapter_path(a), "graft.prompts.values must be texts");
        if (!(s->value[i] = buf_strdup(value))) return ST_NOMEM;
    }
    return ST_OK;
}

status_t slot_open_adapter(const adapter_t *a, const model_t *m, slot_t *s) {
    *s = (slot_t){.prompts = 1, .layout_field = -1};
    TRY(refuse_variants(a, m));
    const json_t *c = adapter_config(a), *graft = json_object_get(c, "graft"),
                 *tokens = json_object_get(c, "num_virtual_tokens");
    s->tokens = json_integer_value(tokens);
    if (s->tokens < 1 || s->tokens > SLOT_MAX_TOKENS)
        return st_raise(ST_INPUT, adapter_path(a),
                        "adapter_config: num_virtual_tokens must be a number between 1 and %d", SLOT_MAX_TOKENS);
    TRY(read_position(a, graft, s));
    return read_prompts(a, graft, s);
}

status_t slot_place(slot_t *s, virtual_layout_t *layout) {
    if (s->field)
        TRY(virtual_add_field(layout, s->field, (const char *const *)s->value, (int)s->prompts, false,
                              &s->layout_field));
    TRY(virtual_reserve(layout, s->place, s->prompts * s->tokens, &s->first));
    return virtual_add_group(layout, (virtual_group_t){s->place, s->first, (int32_t)s->tokens, s->layout_field, -1});
}

status_t slot_declare(const slot_t *s, model_t *m, const char *name, int *param) {
    const int64_t dim[2] = {s->prompts * s->tokens, m->config.hidden};
    return param_declare(&m->params, name, 2, dim, true, true, param);
}

val_t slot_embed(const slot_t *s, build_t *b, val_t table, val_t x) {
    const splice_attr_t attr = {s->first, (int32_t)(s->prompts * s->tokens), 0, b->model->config.hidden};
    const val_t in[] = {x, table, b->slot};
    return tape_emit(b->tape, OP_SPLICE, "prompt", 3, in, &attr, sizeof attr, NULL);
}

static status_t graft_keys(const slot_t *s, json_t **out) {
    json_t *values = s->field ? json_array() : NULL;
    for (int64_t i = 0; s->field && i < s->prompts; i++)
        if (!values || json_array_append_new(values, json_string(s->value[i]))) {
            json_decref(values);
            return st_nomem("adapter_config", 0);
        }
    const char *position = positions[position_of(s->place)].name;
    *out = s->field
               ? json_pack("{s:s, s:{s:s, s:o}}", "position", position, "prompts", "field", s->field, "values", values)
               : json_pack("{s:s}", "position", position);
    return *out ? ST_OK : st_nomem("adapter_config", 0);
}

status_t slot_describe(const slot_t *s, const model_t *m, const char *peft_type, json_t *more, json_t **out) {
    const model_config_t *c = &m->config;
    json_t *graft = NULL, *all = NULL;
    status_t st = graft_keys(s, &graft);
    if (st == ST_OK)
        all = json_pack("{s:s, s:s, s:s, s:n, s:b, s:n, s:I, s:I, s:i, s:I, s:I, s:o}", "peft_type", peft_type,
                        "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path, "revision", "inference_mode", 1,
                        "auto_mapping", "num_virtual_tokens", (json_int_t)s->tokens, "token_dim", (json_int_t)c->hidden,
                        "num_transformer_submodules", 1, "num_attention_heads", (json_int_t)c->heads, "num_layers",
                        (json_int_t)c->layers, "graft", graft);
    if (st == ST_OK && (!all || !more || json_object_update(all, more))) st = st_nomem("adapter_config", 0);
    json_decref(more);
    if (st != ST_OK) json_decref(all);
    *out = st == ST_OK ? all : NULL;
    return st;
}

status_t slot_same_prompts(const slot_t *s, const adapter_t *a) {
    slot_t other = {.prompts = 1};
    status_t st = read_prompts(a, json_object_get(adapter_config(a), "graft"), &other);
    bool same = !s->field == !other.field && s->prompts == other.prompts;
    for (int64_t i = 0; st == ST_OK && same && s->field && i < s->prompts; i++)
        same = !strcmp(s->value[i], other.value[i]);
    if (st == ST_OK && !same)
        st = st_raise(ST_INPUT, adapter_path(a),
                      "holds other named prompts than method.prompts asks for; give the same values in the same order");
    slot_release(&other);
    return st;
}

static status_t raise_unchosen(const slot_t *s) {
    strbuf_t names = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; st == ST_OK && i < s->prompts; i++)
        st = strbuf_addf(&names, "%s%s", i ? ", " : "", s->value[i]);
    if (st == ST_OK)
        st = st_raise(ST_USAGE, "export", "an export holds one prompt; choose it with --condition %s=..., one of: %s",
                      s->field, names.data);
    strbuf_release(&names);
    return st;
}

status_t slot_result(const slot_t *s, const model_t *m, json_t *config, const float *table,
                     const method_choice_t *choice, method_result_t *out) {
    const int64_t count = s->tokens * m->config.hidden;
    int64_t block = 0;
    void *memory;
    out->peft_config = config;
    json_object_del(config, "graft");
    if (s->prompts > 1) {
        int32_t label = choice->label ? choice->label[s->layout_field] : -1;
        if (label < 0 || label >= s->prompts) return raise_unchosen(s);
        block = label;
    }
    TRY(buf_calloc(&memory, count, sizeof(float), "prompt"));
    out->memory = memcpy(memory, table + block * count, (size_t)count * sizeof(float));
    TRY(buf_calloc(&memory, 1, sizeof *out->tensor, "tensor table"));
    out->tensor = memory;
    out->tensor[0].name = "prompt_embeddings";
    out->tensor[0].rank = 2;
    out->tensor[0].dim[0] = s->tokens;
    out->tensor[0].dim[1] = m->config.hidden;
    out->tensor[0].data = out->memory;
    out->n_tensor = 1;
    out->peft_lacks = positions[position_of(s->place)].peft_lacks;
    out->rows_stand = positions[position_of(s->place)].stand;
    return ST_OK;
}

status_t slot_engines(const void *self, const model_t *m, FILE *out) {
    (void)self;
    (void)m;
    fputs("vLLM: no, of adapters it loads LoRA alone; use prompt-embeddings\n"
          "llama.cpp: no, of adapters it loads LoRA alone; use prompt-embeddings\n",
          out);
    return ST_OK;
}
