#include "train/run/special.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/run/registry.h"

status_t special_of_config(const config_t *c, special_t *s) {
    const cfg_strings_t *list = &c->conditioning.special_tokens;
    void *p;
    memset(s, 0, sizeof *s);
    s->seed = (uint64_t)c->training.seed;
    if (!list->count) return ST_OK;
    TRY(buf_calloc(&p, list->count, sizeof *s->text, "special tokens"));
    s->text = p;
    TRY(buf_calloc(&p, list->count, sizeof *s->added, "special tokens"));
    s->added = p;
    for (; s->n < list->count; s->n++) {
        s->text[s->n] = buf_strdup(list->items[s->n]);
        if (!s->text[s->n]) return ST_NOMEM;
    }
    return ST_OK;
}

status_t special_of_adapter(const adapter_t *a, special_t *s) {
    const char *yaml = adapter_run_config(a);
    memset(s, 0, sizeof *s);
    if (!yaml) return ST_OK;
    config_t c;
    memset(&c, 0, sizeof c);
    status_t st = config_parse(adapter_path(a), yaml, strlen(yaml), NULL, 0, registry_methods(), &c);
    if (st == ST_OK) st = special_of_config(&c, s);
    config_release(&c);
    return st;
}

void special_release(special_t *s) {
    for (int i = 0; i < s->n; i++) free(s->text[i]);
    free(s->text);
    free(s->added);
    memset(s, 0, sizeof *s);
}

status_t special_open(special_t *s, tokenizer_t *t, model_t *m) {
    if (!s->n) return ST_OK;
    int32_t first = tokenizer_vocab_size(t);
    TRY(tokenizer_add_special(t, (const char *const *)s->text, s->n));
    for (int i = 0; i < s->n; i++) {
        int32_t id = tokenizer_token_id(t, s->text[i]);
        if (id >= first) s->added[id - first] = s->text[i];
    }
    return model_grow(m, first, tokenizer_vocab_size(t) - first);
}

/* Row of text `i` of a list in the tensors of who listed it: those that the base knows have none. -1: it has none. */
static int64_t row_of(const special_t *list, int i, const tokenizer_t *t, const model_t *m) {
    int64_t row = 0;
    for (int k = 0; k <= i; k++) {
        int32_t id = tokenizer_token_id(t, list->text[k]);
        bool repeated = false;
        for (int j = 0; j < k; j++) repeated |= !strcmp(list->text[j], list->text[k]);
        bool has = !repeated && (id < 0 || id >= m->new_first);
        if (k == i) return has ? row : -1;
        row += has;
    }
    return -1;
}

static int64_t rows_of(const special_t *list, const tokenizer_t *t, const model_t *m) {
    int64_t rows = 0;
    for (int i = 0; i < list->n; i++) rows += row_of(list, i, t, m) >= 0;
    return rows;
}

static status_t take_rows(const special_t *theirs, const tokenizer_t *t, model_t *m, int param, const adapter_t *a,
                          const char *name) {
    view_t *own = &m->params.item[param].value, v = adapter_shared_shape(a, name);
    int64_t rows = rows_of(theirs, t, m), d = own->dim[1];
    if (!v.rank) return ST_OK; /* they were not trained apart */
    if (v.rank != 2 || v.dim[0] != rows || v.dim[1] != d)
        return st_raise(ST_INPUT, adapter_path(a),
                        "tensor '%s' has shape [%lld, %lld]; its tokens ask for [%lld, %lld]", name,
                        (long long)v.dim[0], (long long)v.dim[1], (long long)rows, (long long)d);
    void *memory;
    TRY(buf_calloc(&memory, rows * d, sizeof(float), "rows of special tokens"));
    status_t st = adapter_shared_read(a, name, memory);
    for (int i = 0; st == ST_OK && i < theirs->n; i++) {
        int64_t row = row_of(theirs, i, t, m), id = tokenizer_token_id(t, theirs->text[i]);
        if (row >= 0 && id >= 0)
            memcpy((float *)own->data + id * d, (const float *)memory + row * d, (size_t)d * sizeof(float));
    }
    free(memory);
    return st;
}

status_t special_take(const special_t *s, const tokenizer_t *t, model_t *m, const adapter_t *a) {
    special_t theirs;
    if (!s->n) return ST_OK;
    status_t st = special_of_adapter(a, &theirs);
    if (st == ST_OK && theirs.n) {
        st = take_rows(&theirs, t, m, m->embed, a, MODEL_NEW_EMBED);
        if (st == ST_OK && m->head != m->embed) st = take_rows(&theirs, t, m, m->head, a, MODEL_NEW_HEAD);
    }
    special_release(&theirs);
    return st;
}
