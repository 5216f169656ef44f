/* The rows of a trained prompt alone: one tensor [p, D] of what stands in the place of token embeddings, for engines
 * that take embeddings as input (peft-semantics.md 2.6). */
#include <string.h>
#include "data/safetensors.h"
#include "kernels/buf.h"
#include "train/export/export_dir.h"

static const char *const files[] = {"prompt_embeddings.safetensors", NULL};

static status_t write_rows(export_source_t *s, const char *dir) {
    method_result_t r;
    strbuf_t path = {0};
    TRY(export_result(s, &r));
    const safetensors_out_t row = {.name = "prompt_embeddings",
                                   .store = STORE_F32,
                                   .rank = 2,
                                   .dim = {r.tensor[0].dim[0], r.tensor[0].dim[1]},
                                   .data = r.tensor[0].data};
    status_t st = strbuf_addf(&path, "%s/%s", dir, files[0]);
    if (st == ST_OK) st = safetensors_write(path.data, &row, 1);
    strbuf_release(&path);
    export_result_release(&r);
    return st;
}

static status_t check(const export_source_t *s) {
    method_result_t r;
    TRY(export_refuse_added(s, "--format prompt-embeddings"));
    TRY(export_result(s, &r));
    status_t st = ST_OK;
    if (!r.rows_stand)
        st = st_raise(ST_USAGE, "--format prompt-embeddings",
                      "%s has not learned rows that stand among token embeddings, and this format holds nothing else; "
                      "use %s",
                      s->method->peft_type, s->method->merge ? "merged-safetensors" : "peft");
    export_result_release(&r);
    return st;
}

static status_t notes(const export_source_t *s, FILE *out) {
    method_result_t r;
    TRY(export_result(s, &r));
    fprintf(out,
            "`%s` holds one tensor, `prompt_embeddings`, %lld rows of %lld float32 numbers for the base\n%s.\n"
            "They stand in the place of token embeddings %s, and count as tokens: positions go on behind them.\n",
            files[0], (long long)r.tensor[0].dim[0], (long long)r.tensor[0].dim[1], s->model->path, r.rows_stand);
    export_result_release(&r);
    return ST_OK;
}

static status_t engines(const export_source_t *s, FILE *out) {
    (void)s;
    fputs(
        "vLLM: yes, with --enable-prompt-embeds, for the models that it has this for; the prompt_embeds of a request "
        "are these rows and the embeddings of the text's tokens together, in order\n"
        "llama.cpp: yes, by its library: a llama_batch whose embd has these rows, in order with batches of tokens; its "
        "programs take no embeddings\n"
        "transformers: yes, as a part of inputs_embeds\n",
        out);
    return ST_OK;
}

const export_format_t export_prompt_embeddings = {
    .name = "prompt-embeddings",
    .doc = "Prompt embeddings",
    .files = files,
    .check = check,
    .write = write_rows,
    .notes = notes,
    .engines = engines,
};
