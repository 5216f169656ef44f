/* A LoRA as one GGUF file that llama.cpp loads beside its base (formats.md 3).
 *
 * llama.cpp adds (alpha / r) B A to a weight, with r the rank of that pair and one alpha for the file. What scales
 * otherwise is folded into B. Matrices are [out, in] in every GGUF, GPT-2's too, and so are ours; where GGUF reorders
 * the rows of a weight, those of B are reordered alike. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/gguf_write.h"
#include "kernels/buf.h"
#include "train/export/export_dir.h"

static const char *const files[] = {"adapter.gguf", NULL};
static const char option[] = "--format gguf-adapter";

/* One changed weight on its way to the file. */
typedef struct pair {
    const model_weight_t *weight;
    const site_t *site;
    low_rank_t change;
    float *b;          /* [out, r] as the file has it */
    char name[2][256]; /* of lora_a and lora_b */
} pair_t;

typedef struct pairs {
    pair_t *item; /* [n] */
    int64_t n;
    double alpha;
} pairs_t;

static void release(pairs_t *p) {
    for (int64_t i = 0; p->item && i < p->n; i++) free(p->item[i].b);
    free(p->item);
}

static status_t name_pair(pair_t *p) {
    static const char *const suffix[2] = {"lora_a", "lora_b"};
    if (!p->weight || !p->weight->gguf)
        return st_raise(ST_USAGE, option, "the linear '%s' has no counterpart in a GGUF; use merged-safetensors",
                        p->site->module);
    for (int i = 0; i < 2; i++) {
        int n = snprintf(p->name[i], sizeof p->name[i], "%s.%s", p->weight->gguf, suffix[i]);
        if (n < 0 || n > GGUF_MAX_NAME)
            return st_raise(ST_USAGE, option, "the tensor name '%s' is longer than the %d bytes that GGUF allows",
                            p->name[i], GGUF_MAX_NAME);
    }
    return ST_OK;
}

static status_t collect(const export_source_t *s, pairs_t *out) {
    const model_t *m = s->model;
    void *memory;
    TRY(buf_calloc(&memory, m->n_site, sizeof(pair_t), "LoRA tensors"));
    out->item = memory;
    for (int64_t i = 0; i < m->n_site; i++) {
        pair_t *p = &out->item[out->n];
        if (!s->method->low_rank(s->method_self, m, &m->site[i], &p->change)) continue;
        p->site = &m->site[i];
        p->weight = model_weight_of(m, p->site);
        out->n++;
        TRY(name_pair(p));
    }
    return ST_OK;
}

/* The alpha that leaves the first B as it is. llama.cpp reads 0 as "no alpha" and then does not divide by r. */
static float choose_alpha(const pairs_t *p) {
    const low_rank_t *first = &p->item[0].change;
    float alpha = (float)(first->scale * (double)first->r);
    return isnormal(alpha) ? alpha : (float)first->r;
}

static status_t fold(const model_t *m, float alpha, pair_t *p) {
    const low_rank_t *c = &p->change;
    void *memory;
    TRY(buf_calloc(&memory, p->site->out * c->r, sizeof(float), "LoRA tensor"));
    p->b = memory;
    double factor = c->scale * (double)c->r / (double)alpha;
    if (fabs(factor - 1) < 1e-6) factor = 1; /* the same alpha, rounded */
    for (int64_t o = 0; o < p->site->out; o++) {
        float *to = p->b + model_gguf_row(m, p->weight->flags, o) * c->r;
        for (int64_t k = 0; k < c->r; k++) {
            to[k] = (float)(factor * (double)c->b[o * c->r + k]);
            if (!isfinite(to[k]))
                return st_raise(ST_NUMERIC, p->site->module, "lora_B is not finite in row %lld", (long long)o);
        }
    }
    return ST_OK;
}

static status_t write_pairs(const export_source_t *s, pairs_t *p, const char *path) {
    const float alpha = choose_alpha(p);
    const gguf_out_kv_t kv[] = {{.key = "general.type", .text = "adapter"},
                                {.key = "general.architecture", .text = s->model->family->gguf_arch},
                                {.key = "adapter.type", .text = "lora"},
                                {.key = "adapter.lora.alpha", .real = alpha}};
    void *memory;
    TRY(buf_calloc(&memory, 2 * p->n, sizeof(gguf_out_t), "tensor table"));
    gguf_out_t *row = memory;
    status_t st = ST_OK;
    for (int64_t i = 0; st == ST_OK && i < p->n; i++) {
        pair_t *x = &p->item[i];
        st = fold(s->model, alpha, x);
        row[2 * i] = (gguf_out_t){x->name[0], 2, {x->change.r, x->site->in}, x->change.a};
        row[2 * i + 1] = (gguf_out_t){x->name[1], 2, {x->site->out, x->change.r}, x->b};
    }
    if (st == ST_OK) st = gguf_write(path, kv, sizeof kv / sizeof *kv, row, 2 * p->n);
    free(row);
    return st;
}

static status_t write_adapter(export_source_t *s, const char *dir) {
    pairs_t p = {0};
    strbuf_t path = {0};
    status_t st = collect(s, &p);
    if (st == ST_OK) st = strbuf_addf(&path, "%s/%s", dir, files[0]);
    if (st == ST_OK) st = write_pairs(s, &p, path.data);
    strbuf_release(&path);
    release(&p);
    return st;
}

static status_t check(const export_source_t *s) {
    pairs_t p = {0};
    TRY(export_refuse_added(s, option));
    if (!s->method->low_rank)
        return st_raise(ST_USAGE, option,
                        "%s is no low-rank change of linears, the only adapter that llama.cpp reads; use %s",
                        s->method->peft_type, s->method->merge ? "merged-safetensors" : "peft");
    if (!s->model->family->gguf_arch)
        return st_raise(ST_USAGE, option, "llama.cpp has no models of the family %s; use peft", s->model->family->name);
    status_t st = collect(s, &p);
    if (st == ST_OK && !p.n) st = st_raise(ST_USAGE, option, "the adapter changes no linear");
    release(&p);
    return st;
}

static status_t engines(const export_source_t *s, FILE *out) {
    fprintf(out, "llama.cpp: yes, --lora adapter.gguf, on a GGUF of the base (architecture %s), quantised or not\n",
            s->model->family->gguf_arch);
    fputs("PEFT: no, use peft\nvLLM: no, use peft\n", out);
    return ST_OK;
}

const export_format_t export_gguf_adapter = {
    .name = "gguf-adapter",
    .doc = "LoRA for llama.cpp",
    .files = files,
    .check = check,
    .write = write_adapter,
    .engines = engines,
};
