/* One shard of a token store: lines in, a store of their tokens and metadata out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/json_line.h"
#include "data/store_build_impl.h"
#include "data/store_fields.h"
#include "data/token_store_write.h"

enum { CHUNK = 16 }; /* documents that one thread takes at a time */

/* What became of CHUNK documents. */
typedef struct chunk {
    i32buf_t ids;
    strbuf_t json;
    int64_t ids_end[CHUNK];
    size_t json_end[CHUNK];
} chunk_t;

typedef struct failure { /* the first one in file order, whichever thread found it */
    int64_t document;
    status_t status;
    char message[2048];
} failure_t;

typedef struct work {
    const store_build_t *b;
    const store_shard_t *shard;
    chunk_t *chunk; /* [n_chunks] */
    int64_t n_chunks;
    uint64_t *hash; /* [shard->n] of the lines */
    json_t *fields;
    failure_t failure;
} work_t;

/* What one thread needs. */
typedef struct worker {
    strbuf_t line;
    json_t *fields;
} worker_t;

static status_t digest(const work_t *w, worker_t *me, json_t *document, chunk_t *c) {
    const store_build_options_t *o = &w->b->o;
    const char *text;
    size_t n;
    int64_t before = c->ids.len;
    TRY(json_line_string(document, o->text_field, false, &text, &n));
    if (n == 0)
        return st_raise(ST_INPUT, NULL, "field '%s' is empty; remove the line or give it a text", o->text_field);
    TRY(o->encoder.encode(o->encoder.self, text, n, &c->ids));
    if (c->ids.len == before)
        return st_raise(ST_INPUT, NULL, "field '%s' has no tokens; remove the line or give it a text", o->text_field);
    json_object_del(document, o->text_field);
    TRY(store_fields_count(me->fields, document));
    return store_json_text(document, &c->json);
}

static status_t work_document(const work_t *w, worker_t *me, int64_t i, chunk_t *c) {
    const jsonl_t *lines = &w->b->input[w->shard->file].lines;
    json_t *document = NULL;
    TRY(jsonl_read(lines, w->shard->first + i, &me->line));
    w->hash[i] = XXH64(me->line.data, me->line.len, 0);
    status_t st = json_line_parse(me->line.data, me->line.len, &document);
    if (st == ST_OK) st = digest(w, me, document, c);
    json_decref(document);
    if (st == ST_INPUT) st = st_context(st, "%s:%lld", lines->path, (long long)jsonl_line(lines, w->shard->first + i));
    c->ids_end[i % CHUNK] = c->ids.len;
    c->json_end[i % CHUNK] = c->json.len;
    return st;
}

static void note_failure(failure_t *f, int64_t document, status_t st) {
#pragma omp critical(store_failure)
    if (document < f->document) {
        snprintf(f->message, sizeof f->message, "%s", st_message());
        f->status = st;
#pragma omp atomic write
        f->document = document;
    }
}

static void work_chunk(work_t *w, worker_t *me, int64_t k) {
    int64_t end = (k + 1) * CHUNK < w->shard->n ? (k + 1) * CHUNK : w->shard->n, bad;
#pragma omp atomic read
    bad = w->failure.document;
    for (int64_t i = k * CHUNK; i < end && i < bad; i++) {
        status_t st = work_document(w, me, i, &w->chunk[k]);
        if (st == ST_OK) continue;
        note_failure(&w->failure, i, st);
        break;
    }
}

static status_t work_all(work_t *w) {
    w->failure.document = INT64_MAX;
#pragma omp parallel
    {
        worker_t me = {.fields = json_object()};
        if (!me.fields) note_failure(&w->failure, -1, st_nomem("field table", 1));
#pragma omp for schedule(dynamic, 1)
        for (int64_t k = 0; k < w->n_chunks; k++) work_chunk(w, &me, k);
#pragma omp critical(store_fields)
        {
            status_t st = me.fields ? store_fields_merge(w->fields, me.fields) : ST_OK;
            /* a fault of all lines together: any bad line goes first */
            if (st != ST_OK) note_failure(&w->failure, w->shard->n, st);
        }
        json_decref(me.fields);
        strbuf_release(&me.line);
    }
    if (w->failure.document == INT64_MAX) return ST_OK;
    status_t st = st_adopt(w->failure.status, w->failure.message);
    if (w->failure.document == w->shard->n) st = st_context(st, "%s", w->b->input[w->shard->file].lines.path);
    return st;
}

static status_t write_documents(const work_t *w, token_store_writer_t *out) {
    for (int64_t i = 0; i < w->shard->n; i++) {
        const chunk_t *c = &w->chunk[i / CHUNK];
        int64_t k = i % CHUNK, from = k ? c->ids_end[k - 1] : 0;
        size_t json = k ? c->json_end[k - 1] : 0;
        TRY(token_store_append(out, c->ids.data + from, c->ids_end[k] - from, c->json.data + json,
                               c->json_end[k] - json));
    }
    return ST_OK;
}

static status_t write_part(const work_t *w, const char *path) {
    const store_build_options_t *o = &w->b->o;
    token_store_info_t info = {.documents = w->shard->n,
                               .token_bytes = store_build_token_bytes(w->b),
                               .tokenizer_fingerprint = o->tokenizer_fingerprint,
                               .input_fingerprint = store_build_fingerprint(w->b, w->hash, w->shard->n),
                               .tokenizer = o->tokenizer,
                               .text_field = o->text_field};
    token_store_writer_t *out = NULL;
    strbuf_t fields = {0};
    for (int64_t k = 0; k < w->n_chunks; k++) {
        info.tokens += w->chunk[k].ids.len;
        info.metadata_bytes += (int64_t)w->chunk[k].json.len;
    }
    status_t st = store_json_text(w->fields, &fields);
    info.fields = fields.data;
    if (st == ST_OK) st = token_store_create(path, &info, &out);
    strbuf_release(&fields);
    TRY(st);
    st = write_documents(w, out);
    if (st == ST_OK) return token_store_finish(out);
    token_store_abort(out);
    return st;
}

static void release(work_t *w) {
    for (int64_t k = 0; w->chunk && k < w->n_chunks; k++) {
        i32buf_release(&w->chunk[k].ids);
        strbuf_release(&w->chunk[k].json);
    }
    free(w->chunk);
    free(w->hash);
    json_decref(w->fields);
}

status_t store_build_shard(const store_build_t *b, int64_t shard) {
    work_t w = {.b = b, .shard = &b->shard[shard], .fields = json_object()};
    void *memory = NULL;
    w.n_chunks = (w.shard->n + CHUNK - 1) / CHUNK;
    status_t st = w.fields ? ST_OK : st_nomem("field table", 1);
    if (st == ST_OK) st = buf_calloc(&memory, w.n_chunks, sizeof *w.chunk, "documents of a shard");
    w.chunk = memory;
    memory = NULL;
    if (st == ST_OK) st = buf_calloc(&memory, w.shard->n, sizeof *w.hash, "documents of a shard");
    w.hash = memory;
    if (st == ST_OK) st = work_all(&w);
    char *path = st == ST_OK ? store_build_part(b, shard) : NULL;
    if (st == ST_OK) st = path ? write_part(&w, path) : ST_NOMEM;
    free(path);
    release(&w);
    return st;
}
