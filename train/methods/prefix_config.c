#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/methods/prefix_table.h"

/* ---- describe ------------------------------------------------------------------------------------------------ */

static json_t *block_json(const prefix_block_t *b) {
    json_t *values = json_array();
    for (int i = 0; values && b->field && i < b->n_value; i++)
        if (json_array_append_new(values, json_string(b->value[i]))) {
            json_decref(values);
            return NULL;
        }
    return values ? json_pack("{s:s?, s:o, s:I, s:b}", "field", b->field, "values", values, "num_virtual_tokens",
                              (json_int_t)b->count, "optional", (int)b->optional)
                  : NULL;
}

static json_t *graft_json(const prefix_table_t *t) {
    json_t *blocks = json_array();
    for (int i = 0; blocks && i < t->n_block; i++)
        if (json_array_append_new(blocks, block_json(&t->block[i]))) {
            json_decref(blocks);
            return NULL;
        }
    return blocks ? json_pack("{s:o, s:I}", "blocks", blocks, "encoder", (json_int_t)t->encoder) : NULL;
}

static json_t *peft_json(const prefix_table_t *t, const model_t *m, const char *peft_type, bool projected) {
    return json_pack("{s:s, s:s, s:s, s:n, s:b, s:n, s:I, s:I, s:i, s:I, s:I, s:I, s:b}", "peft_type", peft_type,
                     "task_type", "CAUSAL_LM", "base_model_name_or_path", m->path, "revision", "inference_mode", 1,
                     "auto_mapping", "num_virtual_tokens", (json_int_t)prefix_table_count(t), "token_dim",
                     (json_int_t)t->kv, "num_transformer_submodules", 1, "num_attention_heads", (json_int_t)t->kv_heads,
                     "num_layers", (json_int_t)t->layers, "encoder_hidden_size",
                     (json_int_t)(projected ? t->encoder : t->kv), "prefix_projection", (int)projected);
}

status_t prefix_table_describe(const prefix_table_t *t, const model_t *m, const char *peft_type, json_t **out) {
    json_t *c = peft_json(t, m, peft_type, t->encoder > 0);
    if (c && json_object_set_new(c, "graft", graft_json(t))) {
        json_decref(c);
        c = NULL;
    }
    *out = c;
    return c ? ST_OK : st_nomem("adapter_config", 0);
}

/* ---- open ---------------------------------------------------------------------------------------------------- */

static status_t bad(const adapter_t *a, const char *key) {
    return st_raise(ST_INPUT, adapter_path(a), "the description of its prefix has no valid '%s'", key);
}

static status_t read_count(const adapter_t *a, const json_t *o, const char *key, int64_t least, int64_t *out) {
    const json_t *v = json_object_get(o, key);
    *out = json_integer_value(v);
    return json_is_integer(v) && *out >= least && *out <= PREFIX_MAX_TOKENS ? ST_OK : bad(a, key);
}

static status_t read_block(const adapter_t *a, const json_t *o, prefix_table_t *t) {
    const json_t *values = json_object_get(o, "values");
    const char *field = json_string_value(json_object_get(o, "field"));
    size_t n = json_array_size(values);
    int64_t count;
    void *names;
    TRY(read_count(a, o, "num_virtual_tokens", 1, &count));
    if (field && (n < 1 || n > PREFIX_MAX_TOKENS)) return bad(a, "values");
    if (t->n_block == PREFIX_MAX_BLOCKS) return bad(a, "blocks");
    TRY(buf_calloc(&names, (int64_t)n + 1, sizeof(char *), "labels"));
    const char **name = names;
    status_t st = ST_OK;
    for (size_t i = 0; st == ST_OK && i < n; i++) {
        name[i] = json_string_value(json_array_get(values, i));
        if (!name[i]) st = bad(a, "values");
    }
    if (st == ST_OK) st = prefix_table_add(t, field, name, (int)n, count, json_is_true(json_object_get(o, "optional")));
    free(names);
    return st;
}

static status_t read_graft(const adapter_t *a, const json_t *graft, model_t *m, prefix_table_t **t) {
    const json_t *blocks = json_object_get(graft, "blocks");
    int64_t encoder;
    TRY(read_count(a, graft, "encoder", 0, &encoder));
    TRY(prefix_table_open(m, encoder, t));
    if (!json_array_size(blocks)) return bad(a, "blocks");
    for (size_t i = 0; i < json_array_size(blocks); i++) TRY(read_block(a, json_array_get(blocks, i), *t));
    return (*t)->rows <= INT32_MAX / 2 ? ST_OK : bad(a, "blocks");
}

/* A number that PEFT's config may leave out. */
static status_t expect(const adapter_t *a, const char *key, int64_t want) {
    const json_t *v = json_object_get(adapter_config(a), key);
    if (!v || json_is_null(v) || (json_is_integer(v) && json_integer_value(v) == want)) return ST_OK;
    return st_raise(ST_INPUT, adapter_path(a), "adapter_config: '%s' is not %lld, as the tensor and this model have it",
                    key, (long long)want);
}

static status_t read_plain(const adapter_t *a, model_t *m, prefix_table_t **t) {
    view_t v = adapter_shape(a, "prompt_embeddings");
    if (v.rank != 2 || v.dim[0] < 1 || v.dim[0] > PREFIX_MAX_TOKENS)
        return st_raise(ST_INPUT, adapter_path(a),
                        "holds no prefix: the tensor 'prompt_embeddings' is missing or no "
                        "table of 1 to %d rows",
                        PREFIX_MAX_TOKENS);
    TRY(prefix_table_open(m, 0, t));
    TRY(expect(a, "num_transformer_submodules", 1));
    TRY(expect(a, "num_layers", (*t)->layers));
    TRY(expect(a, "num_attention_heads", (*t)->kv_heads));
    TRY(expect(a, "token_dim", (*t)->kv));
    TRY(expect(a, "num_virtual_tokens", v.dim[0]));
    return prefix_table_add(*t, NULL, NULL, 0, v.dim[0], false);
}

status_t prefix_table_open_adapter(const adapter_t *a, bool plain, model_t *m, prefix_table_t **out) {
    const json_t *graft = json_object_get(adapter_config(a), "graft");
    prefix_table_t *t = NULL;
    status_t st;
    if (graft)
        st = read_graft(a, graft, m, &t);
    else
        st = plain ? read_plain(a, m, &t) : bad(a, "graft");
    if (st == ST_OK) st = prefix_table_declare(t, m);
    if (st == ST_OK)
        *out = t;
    else
        prefix_table_close(t);
    return st;
}

/* ---- result -------------------------------------------------------------------------------------------------- */

static status_t list_fields(const prefix_table_t *t, strbuf_t *text) {
    for (int i = 0; i < t->n_block; i++) {
        const prefix_block_t *b = &t->block[i];
        if (!b->field) continue;
        TRY(strbuf_addf(text, "%s%s (", text->len ? "; " : "", b->field));
        for (int k = 0; k < b->n_value; k++) TRY(strbuf_addf(text, "%s%s", k ? ", " : "", b->value[k]));
        TRY(strbuf_adds(text, ")"));
    }
    return ST_OK;
}

static int32_t label_of(const prefix_block_t *b, const method_choice_t *choice) {
    if (!b->field) return 0;
    return choice && choice->label ? choice->label[b->layout_field] : -1;
}

static status_t check_choice(const prefix_table_t *t, const method_choice_t *choice) {
    bool complete = true;
    for (int i = 0; i < t->n_block; i++) {
        int32_t label = label_of(&t->block[i], choice);
        complete = complete && label >= 0 && label < t->block[i].n_value;
    }
    if (complete) return ST_OK;
    strbuf_t fields = {0};
    status_t st = list_fields(t, &fields);
    if (st == ST_OK)
        st = st_raise(ST_USAGE, "export",
                      "PEFT has one prefix, this method one for each label; choose one for each of %s", fields.data);
    strbuf_release(&fields);
    return st;
}

/* All rows of the table [rows, W], folded if they are projected. Release the tape after the copy. */
static status_t fold(const prefix_table_t *t, model_t *m, tape_t **tape, const float **rows) {
    if (!t->encoder) {
        *rows = m->params.item[t->table].value.data;
        return ST_OK;
    }
    TRY(tape_open(&backend_cpu, &m->params, tape));
    val_t y = prefix_table_encode(t, *tape, t->table);
    tape_keep(*tape, y);
    TRY(tape_plan(*tape, (tape_sizes_t){1, 1, 1, 1}, VAL_NONE, false));
    tape_set_sizes(*tape, (tape_sizes_t){1, 1, 1, 1});
    tape_forward(*tape);
    *rows = tape_data(*tape, y);
    return ST_OK;
}

static void pick(const prefix_table_t *t, const method_choice_t *choice, const float *rows, float *out) {
    int64_t width = 2 * t->layers * t->kv;
    for (int i = 0; i < t->n_block; i++) {
        const prefix_block_t *b = &t->block[i];
        int64_t first = b->first + label_of(b, choice) * b->count;
        memcpy(out, rows + first * width, (size_t)(b->count * width) * sizeof *out);
        out += b->count * width;
    }
}

status_t prefix_table_result(void *self, model_t *m, const method_choice_t *choice, method_result_t *out) {
    const prefix_table_t *t = self;
    TRY(check_choice(t, choice));
    int64_t n = prefix_table_count(t), width = 2 * t->layers * t->kv;
    out->peft_config = peft_json(t, m, "PREFIX_TUNING", false);
    if (!out->peft_config) return st_nomem("adapter_config", 0);
    void *p;
    TRY(buf_calloc(&p, 1, sizeof *out->tensor, "tensor table"));
    out->tensor = p;
    TRY(buf_calloc(&out->memory, n * width, sizeof(float), "prefix"));
    tape_t *tape = NULL;
    const float *rows = NULL;
    status_t st = fold(t, m, &tape, &rows);
    if (st == ST_OK) {
        pick(t, choice, rows, out->memory);
        out->tensor[0].name = "prompt_embeddings";
        out->tensor[0].rank = 2;
        out->tensor[0].dim[0] = n;
        out->tensor[0].dim[1] = width;
        out->tensor[0].data = out->memory;
        out->n_tensor = 1;
    }
    tape_close(tape);
    return st;
}

status_t prefix_table_engines(const void *self, const model_t *m, FILE *out) {
    (void)self;
    (void)m;
    fputs("vLLM: no, it has no prefixes of keys and values\n", out);
    fputs("llama.cpp: no, it has no file format for prefixes\n", out);
    return ST_OK;
}
