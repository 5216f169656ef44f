#include "data/source.h"
#include <string.h>
#include "data/label.h"

/* One row per kind of file. */
typedef struct source_kind {
    void (*close)(source_t *s);
    status_t (*at)(const source_t *s, int64_t i, status_t st);
    status_t (*format)(const source_t *s, data_format_t wanted, data_format_t *out);
    status_t (*text)(const source_t *s, int64_t i, strbuf_t *out);
    status_t (*render)(const source_t *s, int64_t i, const json_t *object, const encoder_t *e,
                       const render_options_t *o, sequence_t *out, int64_t *tokens);
    status_t (*add_body)(const source_t *s, int64_t i, const sequence_t *rendered, const encoder_t *e, int64_t from,
                         int64_t n, float w, sequence_t *out);
} source_kind_t;

/* --- lines --- */

static void lines_close(source_t *s) {
    jsonl_close(&s->lines);
}

static status_t lines_at(const source_t *s, int64_t i, status_t st) {
    return st_context(st, "%s:%lld", s->path, (long long)jsonl_line(&s->lines, i));
}

static status_t lines_text(const source_t *s, int64_t i, strbuf_t *out) {
    return jsonl_read(&s->lines, i, out);
}

static status_t lines_format(const source_t *s, data_format_t wanted, data_format_t *out) {
    *out = wanted;
    if (wanted != FORMAT_AUTO) return ST_OK;
    strbuf_t line = {0};
    status_t st = jsonl_read(&s->lines, 0, &line);
    if (st == ST_OK) st = source_at(s, 0, render_detect(NULL, line.data, line.len, out));
    strbuf_release(&line);
    return st;
}

static status_t lines_render(const source_t *s, int64_t i, const json_t *object, const encoder_t *e,
                             const render_options_t *o, sequence_t *out, int64_t *tokens) {
    (void)s;
    (void)i;
    TRY(render_object(e, o, object, out));
    *tokens = out->ids.len;
    return ST_OK;
}

static status_t lines_add_body(const source_t *s, int64_t i, const sequence_t *rendered, const encoder_t *e,
                               int64_t from, int64_t n, float w, sequence_t *out) {
    (void)s;
    (void)i;
    return sequence_add(out, rendered->ids.data + e->n_prefix + from, n, w);
}

static const source_kind_t lines = {lines_close, lines_at, lines_format, lines_text, lines_render, lines_add_body};

/* --- token stores --- */

static void store_close(source_t *s) {
    token_store_close(s->store);
}

static status_t store_at(const source_t *s, int64_t i, status_t st) {
    return st_context(st, "%s:document %lld", s->path, (long long)i);
}

static status_t store_format(const source_t *s, data_format_t wanted, data_format_t *out) {
    *out = FORMAT_TEXT;
    if (wanted == FORMAT_AUTO || wanted == FORMAT_TEXT) return ST_OK;
    return st_raise(ST_USAGE, s->path, "a token store has documents, but data.format is %s; set it to text or auto",
                    data_format_name(wanted));
}

static status_t store_text(const source_t *s, int64_t i, strbuf_t *out) {
    return token_store_metadata(s->store, i, out);
}

static status_t store_render(const source_t *s, int64_t i, const json_t *object, const encoder_t *e,
                             const render_options_t *o, sequence_t *out, int64_t *tokens) {
    sequence_clear(out);
    if (o->layout) TRY(label_read(object, o->layout, o->label, out->label));
    TRY(sequence_add(out, e->prefix, e->n_prefix, 0.0f));
    out->n_prefix = out->n_prompt = e->n_prefix;
    out->format = FORMAT_TEXT;
    *tokens = e->n_prefix + token_store_length(s->store, i) + o->append_eos;
    return ST_OK;
}

/* Checksums say that a block is as it was written, not that it was written well. */
static status_t check_ids(const encoder_t *e, const sequence_t *out, int64_t from) {
    for (int64_t k = from; k < out->ids.len && e->n_ids > 0; k++)
        if (out->ids.data[k] < 0 || out->ids.data[k] >= e->n_ids)
            return st_raise(ST_INPUT, NULL, "token %d is not in the vocabulary of %d; build the store again",
                            out->ids.data[k], e->n_ids);
    return ST_OK;
}

static status_t store_add_body(const source_t *s, int64_t i, const sequence_t *rendered, const encoder_t *e,
                               int64_t from, int64_t n, float w, sequence_t *out) {
    (void)rendered;
    int64_t length = token_store_length(s->store, i), stored = length - from < n ? length - from : n,
            begin = out->ids.len;
    if (stored > 0) TRY(token_store_ids(s->store, i, from, stored, &out->ids));
    TRY(source_at(s, i, check_ids(e, out, begin)));
    if (from + n > length) TRY(i32buf_push(&out->ids, e->eos));
    return sequence_weigh(out, begin, w);
}

static const source_kind_t store = {store_close, store_at, store_format, store_text, store_render, store_add_body};

/* --- either --- */

static status_t open_store(const encoder_t *e, source_t *s, const char *path) {
    TRY(token_store_open(path, &s->store));
    s->kind = &store;
    s->path = token_store_path(s->store);
    s->n = token_store_documents(s->store);
    const token_store_info_t *info = token_store_info(s->store);
    if (info->tokenizer_fingerprint == e->fingerprint) return ST_OK;
    return st_raise(ST_INPUT, path,
                    "was made with another tokenizer than the model's, that of %s; build it again with this model",
                    info->tokenizer);
}

status_t source_open(const char *path, const encoder_t *e, source_t *out) {
    *out = (source_t){0};
    if (token_store_recognise(path)) {
        status_t st = open_store(e, out, path);
        if (st != ST_OK) source_close(out);
        return st;
    }
    TRY(jsonl_open(path, &out->lines));
    out->kind = &lines;
    out->path = out->lines.path;
    out->n = out->lines.n;
    return ST_OK;
}

void source_close(source_t *s) {
    if (s->kind) s->kind->close(s);
    *s = (source_t){0};
}

status_t source_at(const source_t *s, int64_t i, status_t st) {
    return st == ST_OK ? ST_OK : s->kind->at(s, i, st);
}

status_t source_format(const source_t *s, data_format_t wanted, data_format_t *out) {
    return s->kind->format(s, wanted, out);
}

status_t source_text(const source_t *s, int64_t i, strbuf_t *text) {
    return s->kind->text(s, i, text);
}

status_t source_render(const source_t *s, int64_t i, const json_t *object, const encoder_t *e,
                       const render_options_t *o, sequence_t *out, int64_t *tokens) {
    return s->kind->render(s, i, object, e, o, out, tokens);
}

status_t source_add_body(const source_t *s, int64_t i, const sequence_t *rendered, const encoder_t *e, int64_t from,
                         int64_t n, float w, sequence_t *out) {
    return s->kind->add_body(s, i, rendered, e, from, n, w, out);
}
