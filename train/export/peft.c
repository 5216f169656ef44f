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

/* Also what a choice lacks: nothing was written then. */
static status_t check(const export_source_t *s) {
    method_result_t r;
    TRY(export_refuse_added(s, "--format peft"));
    TRY(export_result(s, &r));
    status_t st = ST_OK;
    if (r.peft_lacks) st = st_raise(ST_USAGE, "--format peft", "%s", r.peft_lacks);
    export_result_release(&r);
    return st;
}

static status_t engines(const export_source_t *s, FILE *out) {
    fputs(s->weights && weights_gguf(s->weights)
              ? "PEFT: yes, on the Hugging Face model that the GGUF base was made from\n"
              : "PEFT: yes, PeftModel.from_pretrained(base, DIR)\n",
          out);
    return s->method->engines(s->method_self, s->model, out);
}

static const char *const files[] = {"adapter_config.json", "adapter_model.safetensors", NULL};

const export_format_t export_peft = {
    .name = "peft",
    .doc = "PEFT adapter",
    .files = files,
    .check = check,
    .write = write_peft,
    .engines = engines,
};
