#include "train/methods/prompt_init.h"
#include <string.h>
#include "kernels/philox.h"
#include "train/tape/initial.h"

static double element(const param_t *p, int64_t i) {
    return p->value.dtype == DT_F64 ? ((const double *)p->value.data)[i] : (double)((const float *)p->value.data)[i];
}

/* Row `to` of the table becomes the mean of n token embeddings. */
static void set_row(const model_t *m, const param_t *table, int64_t to, const int32_t *ids, int64_t n) {
    const param_t *embed = &m->params.item[m->embed];
    int64_t width = m->config.hidden;
    for (int64_t k = 0; k < width; k++) {
        double sum = 0;
        for (int64_t i = 0; i < n; i++) sum += element(embed, ids[i] * width + k);
        initial_set(table, to * width + k, sum / (double)n);
    }
}

static void sample_row(const model_t *m, const param_t *table, int64_t row, uint64_t seed) {
    uint32_t w[4];
    rng_words(seed, RNG_INIT, initial_stream(table), (uint64_t)row, w);
    int32_t id = (int32_t)((uint64_t)w[0] * (uint64_t)m->config.vocab >> 32);
    set_row(m, table, row, &id, 1);
}

void prompt_init_sample(const model_t *m, const param_t *table, uint64_t seed) {
    for (int64_t row = 0; row < table->value.dim[0]; row++) sample_row(m, table, row, seed);
}

static status_t tokens_of(const method_init_t *in, const char *key, const char *text, i32buf_t *ids) {
    TRY(in->encoder->encode(in->encoder->self, text, strlen(text), ids));
    return ids->len ? ST_OK : st_raise(ST_USAGE, key, "'%s' has no tokens; give another text", text);
}

static status_t text_rows(const model_t *m, const param_t *table, int64_t p, const method_init_t *in, const char *text,
                          i32buf_t *ids) {
    TRY(i32buf_add(ids, in->encoder->prefix, in->encoder->n_prefix));
    TRY(tokens_of(in, "method.prompt_tuning_init_text", text, ids));
    for (int64_t row = 0; row < table->value.dim[0]; row++) set_row(m, table, row, &ids->data[row % p % ids->len], 1);
    return ST_OK;
}

status_t prompt_init_text(const model_t *m, const param_t *table, int64_t p, const method_init_t *in,
                          const char *text) {
    i32buf_t ids = {0};
    status_t st = text_rows(m, table, p, in, text, &ids);
    i32buf_release(&ids);
    return st;
}

/* Row `at` of every prompt. */
static status_t label_rows(const model_t *m, const param_t *table, int64_t p, int64_t at, const method_init_t *in,
                           const char *label, i32buf_t *ids) {
    i32buf_clear(ids);
    TRY(tokens_of(in, "method.prompt_tuning_init_labels", label, ids));
    for (int64_t row = at; row < table->value.dim[0]; row += p) set_row(m, table, row, ids->data, ids->len);
    return ST_OK;
}

status_t prompt_init_labels(const model_t *m, const param_t *table, int64_t p, const method_init_t *in,
                            const cfg_strings_t *labels) {
    i32buf_t ids = {0};
    status_t st = ST_OK;
    for (int64_t row = 0; row < table->value.dim[0]; row++)
        if (row % p >= labels->count) sample_row(m, table, row, in->seed);
    for (int i = 0; st == ST_OK && i < labels->count; i++) st = label_rows(m, table, p, i, in, labels->items[i], &ids);
    i32buf_release(&ids);
    return st;
}
