/* A whole model as Hugging Face has it: the base's weights with the method's change added, in float32. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/safetensors.h"
#include "kernels/buf.h"
#include "train/export/added_tokens.h"
#include "train/export/export_dir.h"

/* The configuration first; the others are copied from the base when it has them, except the weights. */
static const char *const files[] = {"config.json",
                                    "model.safetensors",
                                    "generation_config.json",
                                    "tokenizer.json",
                                    "tokenizer_config.json",
                                    "tokenizer.model",
                                    "special_tokens_map.json",
                                    "added_tokens.json",
                                    "chat_template.jinja",
                                    "merges.txt",
                                    "vocab.json",
                                    NULL};
enum { FIRST_COPIED = 2 };

static status_t merge_sites(export_source_t *s) {
    const model_t *m = s->model;
    for (int64_t i = 0; i < m->n_site; i++) {
        view_t *v = &m->params.item[m->site[i].weight].value;
        float *w = v->data;
        TRY(s->method->merge(s->method_self, m, &m->site[i], w));
        for (int64_t k = 0; k < view_count(v); k++)
            if (!isfinite(w[k]))
                return st_raise(ST_NUMERIC, m->site[i].module, "the merged weight is not finite at element %lld",
                                (long long)k);
    }
    return ST_OK;
}

/* [out,in] to Conv1D's [in,out], in place. */
static status_t transpose(view_t *v) {
    int64_t rows = v->dim[0], cols = v->dim[1];
    void *copy;
    TRY(buf_calloc(&copy, view_count(v), sizeof(float), "transposed weight"));
    const float *from = copy;
    float *to = v->data;
    memcpy(copy, v->data, view_bytes(v));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) to[c * rows + r] = from[r * cols + c];
    free(copy);
    return ST_OK;
}

/* Every base tensor once: a tied head has none of its own. */
static status_t fill_rows(const model_t *m, safetensors_out_t *row) {
    for (int64_t i = 0; i < m->n_weight; i++) {
        view_t *v = &m->params.item[m->weight[i].param].value;
        bool turn = m->weight[i].flags & WEIGHT_TRANSPOSED;
        if (turn) TRY(transpose(v));
        row[i] = (safetensors_out_t){.name = m->weight[i].hf, .store = STORE_F32, .rank = v->rank, .data = v->data};
        for (int k = 0; k < v->rank; k++) row[i].dim[k] = v->dim[turn ? v->rank - 1 - k : k];
    }
    return ST_OK;
}

static status_t write_tensors(const model_t *m, const char *dir) {
    void *data;
    TRY(buf_calloc(&data, m->n_weight, sizeof(safetensors_out_t), "tensor table"));
    strbuf_t path = {0};
    status_t st = fill_rows(m, data);
    if (st == ST_OK) st = strbuf_addf(&path, "%s/model.safetensors", dir);
    if (st == ST_OK) st = safetensors_write(path.data, data, m->n_weight);
    strbuf_release(&path);
    free(data);
    return st;
}

static status_t set_id(json_t *config, const gguf_t *g, const char *key, const char *gguf_key) {
    int64_t id;
    if (!gguf_get_i64(g, gguf_key, &id)) return ST_OK;
    return json_object_set_new(config, key, json_integer(id)) ? st_nomem("config.json", 0) : ST_OK;
}

static status_t config_of_gguf(const model_t *m, const gguf_t *g, json_t **out) {
    TRY(m->family->write_hf(m, out));
    TRY(set_id(*out, g, "bos_token_id", "tokenizer.ggml.bos_token_id"));
    return set_id(*out, g, "eos_token_id", "tokenizer.ggml.eos_token_id");
}

static status_t make_config(const export_source_t *s, json_t **out) {
    if (s->config) {
        *out = json_deep_copy(s->config);
        if (!*out) return st_nomem("config.json", 0);
    } else {
        TRY(config_of_gguf(s->model, weights_gguf(s->weights), out));
    }
    if (s->model->n_new && json_object_set_new(*out, "vocab_size", json_integer((json_int_t)s->model->config.vocab)))
        return st_nomem("config.json", 0);
    /* transformers 5 writes and prefers `dtype` */
    if (json_object_get(*out, "dtype") && json_object_set_new(*out, "dtype", json_string("float32")))
        return st_nomem("config.json", 0);
    if (json_object_set_new(*out, "torch_dtype", json_string("float32"))) return st_nomem("config.json", 0);
    return ST_OK;
}

static status_t check(const export_source_t *s) {
    if (!s->method->merge)
        return st_raise(ST_USAGE, "export", "%s cannot be merged into the weights; use peft", s->method->peft_type);
    if (s->method->settle) TRY(s->method->settle(s->method_self, s->model, &s->choice));
    json_t *config = NULL;
    status_t st = make_config(s, &config);
    json_decref(config);
    return st;
}

static status_t write_files(export_source_t *s, const json_t *config, const char *dir) {
    TRY(merge_sites(s));
    TRY(write_tensors(s->model, dir));
    for (int i = FIRST_COPIED; files[i] && s->tokenizer_dir; i++) TRY(added_tokens_file(s, dir, files[i]));
    return export_dir_json(dir, files[0], config);
}

static status_t write_merged(export_source_t *s, const char *dir) {
    json_t *config = NULL;
    status_t st = make_config(s, &config);
    if (st == ST_OK) st = write_files(s, config, dir);
    json_decref(config);
    return st;
}

static status_t engines(const export_source_t *s, FILE *out) {
    bool gguf = !s->tokenizer_dir;
    if (gguf) fputs("graft: notice: a GGUF has no tokenizer files; they are not part of the export\n", stderr);
    for (int i = 0; gguf && i < s->n_special; i++)
        fprintf(stderr, "graft: notice: they have to hold the special token '%s' with id %d\n", s->special[i],
                (int)tokenizer_token_id(s->tokenizer, s->special[i]));
    const char *need = gguf ? ", with tokenizer files added" : "";
    fprintf(out, "transformers: yes%s\n", gguf ? ", with tokenizer files added for text" : "");
    fprintf(out, "vLLM: yes%s\n", need);
    fprintf(out, "llama.cpp: yes, after its convert_hf_to_gguf.py%s\n", need);
    return ST_OK;
}

const export_format_t export_merged = {
    .name = "merged-safetensors",
    .doc = "Merged model",
    .files = files,
    .check = check,
    .write = write_merged,
    .engines = engines,
};
