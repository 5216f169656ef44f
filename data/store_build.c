#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "data/publish.h"
#include "data/store_build_impl.h"
#include "data/store_fields.h"
#include "data/token_store_write.h"

enum { RULES = 1 }; /* of cutting and tokenising; a change makes old parts useless */

int store_build_token_bytes(const store_build_t *b) {
    return b->o.vocabulary <= UINT16_MAX + 1 ? 2 : 4;
}

static char *in_parts(const store_build_t *b, const char *name) {
    strbuf_t path = {0};
    if (strbuf_addf(&path, "%s/%s", b->parts, name) == ST_OK) return path.data;
    strbuf_release(&path);
    return NULL;
}

char *store_build_part(const store_build_t *b, int64_t shard) {
    char name[40];
    snprintf(name, sizeof name, "shard-%06lld.h5", (long long)shard);
    return in_parts(b, name);
}

uint64_t store_build_fingerprint(const store_build_t *b, const uint64_t *line, int64_t n) {
    uint64_t key[4] = {RULES, b->o.tokenizer_fingerprint, (uint64_t)store_build_token_bytes(b), (uint64_t)n};
    uint64_t h = XXH64(key, sizeof key, 0);
    h = XXH64(b->o.text_field, strlen(b->o.text_field), h);
    return XXH64(line, (size_t)n * sizeof *line, h);
}

/* --- opening --------------------------------------------------------------------------------------------------- */

static status_t look_at(const store_input_t *in, struct stat *info) {
    if (fstat(in->lines.fd, info) != 0) return st_errno(ST_INPUT, in->lines.path, "examine", errno);
    return ST_OK;
}

static status_t cut(store_build_t *b, int file) {
    const jsonl_t *lines = &b->input[file].lines;
    for (int64_t first = 0, end; first < lines->n; first = end) {
        int64_t bytes = 0;
        for (end = first; end < lines->n && end - first < SHARD_LINES && bytes < SHARD_BYTES; end++)
            bytes += lines->length[end];
        void *data = b->shard;
        status_t st = buf_reserve(&data, &b->cap_shards, b->n_shards + 1, sizeof *b->shard, "shards");
        b->shard = data;
        TRY(st);
        b->shard[b->n_shards++] = (store_shard_t){.file = file, .n = (int32_t)(end - first), .first = first};
    }
    return ST_OK;
}

static status_t open_input(store_build_t *b, const char *path) {
    store_input_t *in = &b->input[b->n_input];
    struct stat info;
    TRY(jsonl_open(path, &in->lines));
    b->n_input++;
    TRY(look_at(in, &info));
    in->bytes = info.st_size;
    in->seconds = info.st_mtim.tv_sec;
    in->nanoseconds = info.st_mtim.tv_nsec;
    return cut(b, b->n_input - 1);
}

static status_t open_all(store_build_t *b) {
    const char *out = b->o.out;
    void *memory;
    if (b->o.n_paths < 1) return st_raise(ST_USAGE, "data build", "no files to read; name at least one");
    if (access(out, F_OK) == 0 && !token_store_recognise(out))
        return st_raise(ST_USAGE, out, "exists and is no token store; name another file");
    strbuf_t parts = {0};
    status_t st = strbuf_addf(&parts, "%s.parts", out);
    b->parts = parts.data;
    TRY(st);
    TRY(buf_calloc(&memory, b->o.n_paths, sizeof *b->input, "input files"));
    b->input = memory;
    for (int i = 0; i < b->o.n_paths; i++) TRY(open_input(b, b->o.paths[i]));
    return ST_OK;
}

status_t store_build_open(const store_build_options_t *o, store_build_t **out) {
    void *memory;
    TRY(buf_calloc(&memory, 1, sizeof(store_build_t), "token store"));
    store_build_t *b = memory;
    b->o = *o;
    status_t st = open_all(b);
    if (st != ST_OK) {
        store_build_close(b);
        return st;
    }
    *out = b;
    return ST_OK;
}

void store_build_close(store_build_t *b) {
    if (!b) return;
    for (int i = 0; i < b->n_input; i++) jsonl_close(&b->input[i].lines);
    free(b->input);
    free(b->shard);
    free(b->parts);
    free(b);
}

int64_t store_build_shards(const store_build_t *b) {
    return b->n_shards;
}

status_t store_build_prepare(const store_build_t *b) {
    struct stat info;
    if (mkdir(b->parts, 0777) != 0 && errno != EEXIST) {
        bool named = errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EROFS;
        return st_errno(named ? ST_USAGE : ST_IO, b->parts, "create this directory for the parts", errno);
    }
    if (stat(b->parts, &info) != 0 || !S_ISDIR(info.st_mode))
        return st_raise(ST_USAGE, b->parts, "is in the way: the parts of the store need a directory of this name");
    return ST_OK;
}

/* --- shards that are there ------------------------------------------------------------------------------------- */

static status_t hash_lines(const store_build_t *b, const store_shard_t *s, uint64_t *hash) {
    strbuf_t line = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; i < s->n && st == ST_OK; i++) {
        st = jsonl_read(&b->input[s->file].lines, s->first + i, &line);
        if (st == ST_OK) hash[i] = XXH64(line.data, line.len, 0);
    }
    strbuf_release(&line);
    return st;
}

static status_t compare(const store_build_t *b, const store_shard_t *s, const token_store_t *part, bool *same) {
    void *hash;
    const token_store_info_t *info = token_store_info(part);
    *same = false;
    if (info->documents != s->n) return ST_OK;
    TRY(buf_calloc(&hash, s->n, sizeof(uint64_t), "documents of a shard"));
    status_t st = hash_lines(b, s, hash);
    if (st == ST_OK) *same = info->input_fingerprint == store_build_fingerprint(b, hash, s->n);
    free(hash);
    return st;
}

status_t store_build_find(const store_build_t *b, int64_t shard, bool *there) {
    token_store_t *part = NULL;
    bool same = false;
    char *path = store_build_part(b, shard);
    if (!path) return ST_NOMEM;
    status_t st = token_store_open(path, &part);
    if (st == ST_OK) st = token_store_verify(part);
    free(path);
    if (st == ST_OK)
        st = compare(b, &b->shard[shard], part, &same);
    else if (st == ST_INPUT) /* missing or damaged: it is built again */
        st_clear(), st = ST_OK;
    token_store_close(part);
    *there = same;
    return st;
}

/* --- joining --------------------------------------------------------------------------------------------------- */

static status_t open_part(const store_build_t *b, int64_t shard, token_store_t **part) {
    char *path = store_build_part(b, shard);
    if (!path) return ST_NOMEM;
    status_t st = token_store_open(path, part);
    if (st == ST_OK && token_store_documents(*part) != b->shard[shard].n) {
        st = st_raise(ST_INPUT, path, "has another number of documents than its lines; start the build again");
        token_store_close(*part);
    }
    free(path);
    return st;
}

/* Adds what part `shard` holds to the totals. */
static status_t add_part(const store_build_t *b, int64_t shard, token_store_info_t *total, json_t *fields) {
    token_store_t *part = NULL;
    TRY(open_part(b, shard, &part));
    const token_store_info_t *info = token_store_info(part);
    total->documents += info->documents;
    total->tokens += info->tokens;
    total->metadata_bytes += info->metadata_bytes;
    total->input_fingerprint =
        XXH64(&info->input_fingerprint, sizeof info->input_fingerprint, total->input_fingerprint);
    json_t *table = json_loads(info->fields, 0, NULL);
    status_t st = table ? store_fields_merge(fields, table) : st_nomem("field table", 1);
    json_decref(table);
    token_store_close(part);
    return st;
}

static status_t copy_part(const store_build_t *b, int64_t shard, token_store_writer_t *out) {
    token_store_t *part = NULL;
    i32buf_t ids = {0};
    strbuf_t json = {0};
    TRY(open_part(b, shard, &part));
    status_t st = ST_OK;
    for (int64_t i = 0; i < token_store_documents(part) && st == ST_OK; i++) {
        i32buf_clear(&ids);
        st = token_store_ids(part, i, 0, token_store_length(part, i), &ids);
        if (st == ST_OK) st = token_store_metadata(part, i, &json);
        if (st == ST_OK) st = token_store_append(out, ids.data, ids.len, json.data, json.len);
    }
    i32buf_release(&ids);
    strbuf_release(&json);
    token_store_close(part);
    return st;
}

static status_t copy_all(const store_build_t *b, const char *path, const token_store_info_t *total) {
    token_store_writer_t *out = NULL;
    TRY(token_store_create(path, total, &out));
    for (int64_t i = 0; i < b->n_shards; i++) {
        status_t st = copy_part(b, i, out);
        if (st == ST_OK) continue;
        token_store_abort(out);
        return st;
    }
    return token_store_finish(out);
}

static status_t join_into(const store_build_t *b, const char *path) {
    token_store_info_t total = {.token_bytes = store_build_token_bytes(b),
                                .tokenizer_fingerprint = b->o.tokenizer_fingerprint,
                                .tokenizer = b->o.tokenizer,
                                .text_field = b->o.text_field};
    strbuf_t text = {0};
    json_t *fields = json_object();
    status_t st = fields ? ST_OK : st_nomem("field table", 1);
    for (int64_t i = 0; i < b->n_shards && st == ST_OK; i++) st = add_part(b, i, &total, fields);
    if (st == ST_OK) st = store_json_text(fields, &text);
    total.fields = text.data;
    if (st == ST_OK) st = copy_all(b, path, &total);
    json_decref(fields);
    strbuf_release(&text);
    return st;
}

/* Lines of two versions of a file must not meet in one store. */
static status_t check_unchanged(const store_build_t *b) {
    for (int i = 0; i < b->n_input; i++) {
        const store_input_t *in = &b->input[i];
        struct stat info;
        TRY(look_at(in, &info));
        if (info.st_size != in->bytes || info.st_mtim.tv_sec != in->seconds || info.st_mtim.tv_nsec != in->nanoseconds)
            return st_raise(ST_INPUT, in->lines.path, "the file changed while it was read; start the build again");
    }
    return ST_OK;
}

status_t store_build_join(const store_build_t *b) {
    TRY(check_unchanged(b));
    /* beside the parts first: what a killed join leaves behind is removed with them */
    char *joined = in_parts(b, "joined.h5");
    if (!joined) return ST_NOMEM;
    status_t st = join_into(b, joined);
    if (st == ST_OK) st = publish_move(joined, b->o.out);
    free(joined);
    return st;
}

static bool is_ours(const char *name) {
    if (*name == '.') name++; /* .shard-000001.h5.tmp-...: left by a writer that was killed */
    return strncmp(name, "shard-", 6) == 0 || strncmp(name, "joined.h5", 9) == 0;
}

void store_build_clean(const store_build_t *b) {
    DIR *dir = opendir(b->parts);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir)) {
        char *path = is_ours(e->d_name) ? in_parts(b, e->d_name) : NULL;
        if (path) unlink(path);
        free(path);
    }
    if (dir) closedir(dir);
    rmdir(b->parts);
}
