#include <string.h>
#include "kernels/buf.h"
#include "train/methods/prefix_table.h"

static status_t tokenize(const model_t *m, const method_init_t *in, const char *text, i32buf_t *ids) {
    TRY(i32buf_add(ids, in->encoder->prefix, in->encoder->n_prefix));
    TRY(in->encoder->encode(in->encoder->self, text, strlen(text), ids));
    if (!ids->len) return st_raise(ST_USAGE, "init_text", "has no tokens; give a text");
    for (int64_t i = 0; i < ids->len; i++)
        if (ids->data[i] < 0 || ids->data[i] >= m->config.vocab)
            return st_raise(ST_USAGE, "init_text", "has the token %d, the model only %lld; it belongs to another model",
                            (int)ids->data[i], (long long)m->config.vocab);
    return ST_OK;
}

static void feed(build_t *b, const i32buf_t *text, int64_t n) {
    int32_t *ids = tape_data(b->tape, b->ids), *positions = tape_data(b->tape, b->positions);
    int32_t *cu = tape_data(b->tape, b->cu), *rows = tape_data(b->tape, b->rows);
    int32_t *past = tape_data(b->tape, b->past);
    for (int64_t i = 0; i < n; i++) {
        ids[i] = text->data[i % text->len];
        positions[i] = (int32_t)i;
    }
    cu[0] = 0;
    cu[1] = (int32_t)n;
    rows[0] = (int32_t)(n - 1);
    past[0] = 0;
    tape_set_sizes(b->tape, (tape_sizes_t){n, 1, 1, 0});
    tape_forward(b->tape);
}

/* A layer's cache is [2, n, K h]: first all keys, then all values. */
static void copy(const build_t *b, int64_t n, char *rows) {
    const model_config_t *c = &b->model->config;
    size_t part = (size_t)(c->kv_heads * c->head_dim) * dtype_size(b->model->params.real);
    for (int64_t half = 0; half < 2 * c->layers; half++) {
        const char *from = (const char *)tape_data(b->tape, b->cache[half / 2]) + (size_t)(half % 2 * n) * part;
        for (int64_t i = 0; i < n; i++)
            memcpy(rows + (size_t)(i * 2 * c->layers + half) * part, from + (size_t)i * part, part);
    }
}

status_t prefix_text_rows(model_t *m, const method_init_t *in, const char *text, int64_t n, void *rows) {
    if (n > m->config.max_positions)
        return st_raise(ST_USAGE, "num_virtual_tokens",
                        "%lld tokens of init_text exceed the model's %lld positions; take fewer", (long long)n,
                        (long long)m->config.max_positions);
    i32buf_t ids = {0};
    build_t b;
    const build_options_t o = {.tail = TAIL_LOGITS, .cached = true, .slots = 1, .places = n, .capacity = {n, 1, 1, 0}};
    status_t st = tokenize(m, in, text, &ids);
    if (st == ST_OK) st = build_open(m, in->backend, NULL, 0, o, &b);
    if (st == ST_OK) {
        feed(&b, &ids, n);
        copy(&b, n, rows);
        build_close(&b);
    }
    i32buf_release(&ids);
    return st;
}
