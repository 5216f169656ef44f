/* A PEFT adapter directory (formats.md 6): adapter_config.json and adapter_model.safetensors. */
#include <stdlib.h>
#include <string.h>
#include "data/safetensors.h"
#include "kernels/buf.h"
#include "train/export/export_dir.h"

static status_t write_tensors(const method_result_t *r, const char *dir) {
    void *data;
    TRY(buf_calloc(&data, r->n_tensor, sizeof(safetensors_out_t), "tensor table"));
    safetensors_out_t *row = data;
    for (int64_t i = 0; i < r->n_tensor; i++) {
        row[i] = (safetensors_out_t){
            .name = r->tensor[i].name, .store = STORE_F32, .rank = r->tensor[i].rank, .data = r->tensor[i].data};
        memcpy(row[i].dim, r->tensor[i].dim, sizeof r->tensor[i].dim);
    }
    strbuf_t path = {0};
    status_t st = strbuf_addf(&path, "%s/adapter_model.safetensors", dir);
    if (st == ST_OK) st = safetensors_write(path.data, row, r->n_tensor);
    strbuf_release(&path);
    free(row);
    return st;
}

static status_t write_peft(export_source_t *s, const char *dir) {
    method_result_t r;
    TRY(export_result(s, &r));
    status_t st = write_tensors(&r, dir);
    if (st == ST_OK) st = export_dir_json(dir, "adapter_config.json", r.peft_config);
    export_result_release(&r);
    return st;
}

/* What the engines make of the configuration (peft-semantics.md 2.6). */
static status_t engines(const export_source_t *s, FILE *out) {
    json_t *config = NULL;
    TRY(s->method->describe(s->method_self, s->model, &config));
    long long r = json_integer_value(json_object_get(config, "r"));
    bool rslora = json_is_true(json_object_get(config, "use_rslora"));
    bool conv1d = json_is_true(json_object_get(config, "fan_in_fan_out"));
    bool ranks = json_object_size(json_object_get(config, "rank_pattern")) > 0;
    json_decref(config);
    if (weights_gguf(s->weights))
        fputs("PEFT: yes, on the Hugging Face model that the GGUF base was made from\n", out);
    else
        fputs("PEFT: yes, PeftModel.from_pretrained(base, DIR)\n", out);
    if (conv1d)
        fputs("vLLM: no, it has no adapters for GPT-2; use merged-safetensors\n", out);
    else if (ranks)
        fputs("vLLM: no, it takes one rank for all modules; use merged-safetensors\n", out);
    else
        fprintf(out, "vLLM: yes, with --enable-lora and --max-lora-rank at least %lld%s\n", r,
                rslora ? " (a version that knows use_rslora)" : "");
    if (conv1d)
        fputs(
            "llama.cpp: no, its converter transposes GPT-2's matrices but not the adapter's; use merged-safetensors\n",
            out);
    else if (rslora)
        fputs("llama.cpp: no, its converter ignores use_rslora and would scale wrongly; use merged-safetensors\n", out);
    else
        fputs("llama.cpp: yes, after its convert_lora_to_gguf.py\n", out);
    return ST_OK;
}

static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

const export_format_t export_peft = {
    .name = "peft",
    .doc = "PEFT adapter",
    .files = files,
    .write = write_peft,
    .engines = engines,
};
