#include "train/methods/adapter_gguf.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

struct adapter_gguf {
    gguf_t *file;
    const model_t *model;
    char **name; /* [count] PEFT's; NULL: the model has no such tensor */
    int *flags;  /* [count] row order, as in model_weight_t */
};

bool adapter_gguf_recognise(const char *path) {
    char magic[4] = {0};
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    bool same = fread(magic, 1, sizeof magic, f) == sizeof magic && !memcmp(magic, "GGUF", sizeof magic);
    fclose(f);
    return same;
}

static bool says(const gguf_t *g, const char *key, const char *wanted) {
    const char *s;
    size_t n;
    return gguf_get_str(g, key, &s, &n) && n == strlen(wanted) && !memcmp(s, wanted, n);
}

static bool ends_with(const char *s, const char *end) {
    size_t n = strlen(s), k = strlen(end);
    return n >= k && !strcmp(s + n - k, end);
}

/* Ranks of the pairs: the smallest and the largest. */
static status_t read_ranks(const gguf_t *g, int64_t *least, int64_t *most) {
    *least = INT64_MAX;
    *most = 0;
    for (int64_t i = 0; i < gguf_tensor_count(g); i++) {
        const tensor_info_t *t = gguf_tensor_at(g, i);
        bool a = ends_with(t->name, ".lora_a"), b = ends_with(t->name, ".lora_b");
        if (!a && !b)
            return st_raise(ST_INPUT, gguf_path(g), "tensor '%s' is none of a LoRA (.lora_a, .lora_b)", t->name);
        if (t->rank != 2 || t->dim[0] < 1 || t->dim[1] < 1)
            return st_raise(ST_INPUT, gguf_path(g), "tensor '%s' is no matrix", t->name);
        int64_t r = t->dim[b];
        if (r < *least) *least = r;
        if (r > *most) *most = r;
    }
    return *most ? ST_OK : st_raise(ST_INPUT, gguf_path(g), "holds no tensors");
}

/* Without an alpha, or with 0, llama.cpp adds B A as it is. */
static status_t make_config(const gguf_t *g, json_t **out) {
    int64_t least, most;
    double alpha = 0;
    TRY(read_ranks(g, &least, &most));
    if (gguf_has(g, "adapter.lora.alpha") && (!gguf_get_f64(g, "adapter.lora.alpha", &alpha) || !isfinite(alpha)))
        return st_raise(ST_INPUT, gguf_path(g), "adapter.lora.alpha is no finite number");
    if (gguf_has(g, "adapter.alora.invocation_tokens"))
        return st_raise(ST_INPUT, gguf_path(g), "an adapter that invocation tokens switch on is not supported");
    if (alpha == 0 && least != most)
        return st_raise(ST_INPUT, gguf_path(g),
                        "has no adapter.lora.alpha and ranks from %lld to %lld; such an adapter "
                        "is not supported",
                        (long long)least, (long long)most);
    *out = json_pack("{s:s, s:I, s:f}", "peft_type", "LORA", "r", (json_int_t)most, "lora_alpha",
                     alpha == 0 ? (double)most : alpha);
    return *out ? ST_OK : st_nomem("adapter", 0);
}

static status_t open_file(adapter_gguf_t *a, const char *path, json_t **config) {
    void *memory;
    TRY(gguf_open(path, &a->file));
    if (!says(a->file, "general.type", "adapter") || !says(a->file, "adapter.type", "lora"))
        return st_raise(ST_INPUT, path, "is a GGUF but no LoRA (general.type adapter, adapter.type lora)");
    TRY(buf_calloc(&memory, gguf_tensor_count(a->file), sizeof *a->name, "adapter"));
    a->name = memory;
    TRY(buf_calloc(&memory, gguf_tensor_count(a->file), sizeof *a->flags, "adapter"));
    a->flags = memory;
    return make_config(a->file, config);
}

status_t adapter_gguf_open(const char *path, adapter_gguf_t **out, json_t **config) {
    void *p;
    TRY(buf_calloc(&p, 1, sizeof(adapter_gguf_t), "adapter"));
    status_t st = open_file(p, path, config);
    if (st == ST_OK)
        *out = p;
    else
        adapter_gguf_close(p);
    return st;
}

void adapter_gguf_close(adapter_gguf_t *a) {
    if (!a) return;
    for (int64_t i = 0; a->name && i < gguf_tensor_count(a->file); i++) free(a->name[i]);
    free(a->name);
    free(a->flags);
    gguf_close(a->file);
    free(a);
}

/* The site and the half of its pair that a tensor is of. */
static status_t bind_one(adapter_gguf_t *a, int64_t i, const site_t *site, const model_weight_t *w) {
    const char *full = gguf_tensor_at(a->file, i)->name;
    size_t n = strlen(w->gguf);
    if (strncmp(full, w->gguf, n)) return ST_OK;
    const bool b = !strcmp(full + n, ".lora_b");
    if (!b && strcmp(full + n, ".lora_a")) return ST_OK;
    strbuf_t name = {0};
    TRY(strbuf_addf(&name, "base_model.model.%s.lora_%s.weight", site->module, b ? "B" : "A"));
    a->name[i] = name.data;
    a->flags[i] = b ? w->flags : 0;
    return ST_OK;
}

static status_t bind_site(adapter_gguf_t *a, const site_t *site) {
    const model_weight_t *w = model_weight_of(a->model, site);
    for (int64_t i = 0; w && w->gguf && i < gguf_tensor_count(a->file); i++)
        if (!a->name[i]) TRY(bind_one(a, i, site, w));
    return ST_OK;
}

status_t adapter_gguf_bind(adapter_gguf_t *a, const model_t *m) {
    const char *arch = m->family->gguf_arch;
    if (!arch || !says(a->file, "general.architecture", arch))
        return st_raise(ST_INPUT, gguf_path(a->file), "is an adapter for another architecture than %s",
                        arch ? arch : m->family->name);
    a->model = m;
    for (int64_t i = 0; i < m->n_site; i++) TRY(bind_site(a, &m->site[i]));
    return ST_OK;
}

int64_t adapter_gguf_count(const adapter_gguf_t *a) {
    return gguf_tensor_count(a->file);
}

const char *adapter_gguf_name(const adapter_gguf_t *a, int64_t i) {
    return a->name[i] ? a->name[i] : gguf_tensor_at(a->file, i)->name;
}

const tensor_info_t *adapter_gguf_at(const adapter_gguf_t *a, int64_t i) {
    return gguf_tensor_at(a->file, i);
}

status_t adapter_gguf_read(const adapter_gguf_t *a, int64_t i, float *out) {
    const tensor_info_t *t = gguf_tensor_at(a->file, i);
    for (int64_t r = 0; r < t->dim[0]; r++)
        TRY(tensor_info_read_f32(t, model_gguf_row(a->model, a->flags[i], r) * t->dim[1], t->dim[1],
                                 out + r * t->dim[1]));
    return ST_OK;
}
