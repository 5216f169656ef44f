#include "data/weights.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>
#include "data/mapping.h"
#include "data/name_index.h"
#include "data/safetensors.h"
#include "kernels/buf.h"

struct weights {
    char *path;
    gguf_t *gguf;
    json_t *config;
    safetensors_t **shard;
    int64_t shard_count, shard_cap;
    const tensor_info_t **tensor; /* in file order, shard by shard */
    int64_t count;
    name_index_t index;
};

static status_t join(const char *dir, const char *name, char **out) {
    strbuf_t b = {0};
    status_t st = strbuf_addf(&b, "%s/%s", dir, name);
    if (st != ST_OK) {
        strbuf_release(&b);
        return st;
    }
    *out = b.data;
    return ST_OK;
}

/* Parses DIR/NAME, which must be a JSON object. */
static status_t load_object(const char *dir, const char *name, json_t **out) {
    char *path = NULL;
    TRY(join(dir, name, &path));
    json_error_t error;
    json_t *value = NULL;
    status_t st = ST_OK;
    if (access(path, R_OK) != 0) {
        st = st_errno(ST_INPUT, path, "read", errno);
    } else if (!(value = json_load_file(path, JSON_REJECT_DUPLICATES, &error))) {
        st = st_raise(ST_INPUT, path, "line %d: %s; the file is not valid JSON", error.line, error.text);
    } else if (!json_is_object(value)) {
        st = st_raise(ST_INPUT, path, "is not a JSON object");
        json_decref(value);
    } else {
        *out = value;
    }
    free(path);
    return st;
}

static status_t add_shard(weights_t *w, const char *name) {
    char *path = NULL;
    TRY(join(w->path, name, &path));
    void *shards = w->shard;
    status_t st = buf_reserve(&shards, &w->shard_cap, w->shard_count + 1, sizeof *w->shard, "shard table");
    w->shard = shards;
    if (st == ST_OK) st = safetensors_open(path, &w->shard[w->shard_count]);
    if (st == ST_OK) w->shard_count++;
    free(path);
    return st;
}

/* A name from the index is used as a file name: it must stay in the directory. */
static status_t check_shard_name(const weights_t *w, const char *tensor, const char *file) {
    if (!file)
        return st_raise(ST_INPUT, w->path, "model.safetensors.index.json: weight_map: '%s' names no file", tensor);
    if (!file[0] || strchr(file, '/') || strchr(file, '\\') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return st_raise(ST_INPUT, w->path,
                        "model.safetensors.index.json: weight_map: '%s': '%s' is not a plain file name", tensor, file);
    return ST_OK;
}

static status_t file_all(weights_t *w) {
    for (int64_t i = 0; i < w->shard_count; i++) w->count += safetensors_count(w->shard[i]);
    void *table = NULL;
    TRY(buf_calloc(&table, w->count, sizeof *w->tensor, "tensor table"));
    w->tensor = table;
    TRY(name_index_create(w->count, &w->index));
    int64_t n = 0;
    for (int64_t s = 0; s < w->shard_count; s++)
        for (int64_t i = 0; i < safetensors_count(w->shard[s]); i++, n++) {
            const tensor_info_t *t = safetensors_at(w->shard[s], i);
            w->tensor[n] = t;
            int64_t old = name_index_add(&w->index, t->name, n);
            if (old >= 0)
                return st_raise(ST_INPUT, t->file, "tensor '%s' is also in %s; remove one of the files", t->name,
                                w->tensor[old]->file);
        }
    return ST_OK;
}

/* The index and the shards must tell the same story. */
static status_t check_index(const weights_t *w, json_t *map) {
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const tensor_info_t *t = weights_find(w, name);
        if (!t || strcmp(strrchr(t->file, '/') + 1, json_string_value(value)) != 0)
            return st_raise(
                ST_INPUT, w->path,
                "model.safetensors.index.json: tensor '%s' is not in %s; the download is incomplete or mixed", name,
                json_string_value(value));
    }
    for (int64_t i = 0; i < w->count; i++)
        if (!json_object_get(map, w->tensor[i]->name))
            return st_raise(ST_INPUT, w->tensor[i]->file,
                            "tensor '%s' is missing in model.safetensors.index.json; the download is mixed",
                            w->tensor[i]->name);
    return ST_OK;
}

static status_t open_shards(weights_t *w, json_t *map) {
    name_index_t seen = {0};
    if (!json_is_object(map) || json_object_size(map) == 0)
        return st_raise(ST_INPUT, w->path, "model.safetensors.index.json: 'weight_map' is not an object with entries");
    TRY(name_index_create((int64_t)json_object_size(map), &seen));
    status_t st = ST_OK;
    const char *name;
    json_t *value;
    json_object_foreach(map, name, value) {
        const char *file = json_string_value(value);
        st = check_shard_name(w, name, file);
        if (st == ST_OK && name_index_add(&seen, file, 0) < 0) st = add_shard(w, file);
        if (st != ST_OK) break;
    }
    name_index_release(&seen);
    return st;
}

static status_t open_indexed(weights_t *w) {
    json_t *index = NULL;
    TRY(load_object(w->path, "model.safetensors.index.json", &index));
    json_t *map = json_object_get(index, "weight_map");
    status_t st = open_shards(w, map);
    if (st == ST_OK) st = file_all(w);
    if (st == ST_OK) st = check_index(w, map);
    json_decref(index);
    return st;
}

static status_t has_file(const weights_t *w, const char *name, bool *out) {
    char *path = NULL;
    TRY(join(w->path, name, &path));
    *out = access(path, F_OK) == 0;
    free(path);
    return ST_OK;
}

static status_t open_directory(weights_t *w) {
    bool single = false, indexed = false, config = false;
    TRY(has_file(w, "model.safetensors", &single));
    TRY(has_file(w, "model.safetensors.index.json", &indexed));
    TRY(has_file(w, "config.json", &config));
    if (!config)
        return st_raise(ST_INPUT, w->path, "has no config.json; give a Hugging Face model directory or a .gguf file");
    TRY(load_object(w->path, "config.json", &w->config));
    if (single) {
        TRY(add_shard(w, "model.safetensors"));
        return file_all(w);
    }
    if (indexed) return open_indexed(w);
    return st_raise(ST_INPUT, w->path,
                    "has neither model.safetensors nor model.safetensors.index.json; convert the model to safetensors");
}

static status_t open_gguf(weights_t *w) {
    int64_t parts;
    TRY(gguf_open(w->path, &w->gguf));
    if (gguf_get_i64(w->gguf, "split.count", &parts) && parts > 1)
        return st_raise(ST_INPUT, w->path, "split.count: is one of %lld parts; join them with llama-gguf-split --merge",
                        (long long)parts);
    w->count = gguf_tensor_count(w->gguf);
    void *table = NULL;
    TRY(buf_calloc(&table, w->count, sizeof *w->tensor, "tensor table"));
    w->tensor = table;
    TRY(name_index_create(w->count, &w->index));
    for (int64_t i = 0; i < w->count; i++) {
        w->tensor[i] = gguf_tensor_at(w->gguf, i);
        name_index_add(&w->index, w->tensor[i]->name, i); /* gguf_open has refused duplicates */
    }
    return ST_OK;
}

static status_t load(weights_t *w) {
    struct stat info;
    if (stat(w->path, &info) != 0) {
        if (errno == ENOENT)
            return st_raise(ST_INPUT, w->path,
                            "does not exist; give a Hugging Face directory (config.json and "
                            "safetensors) or a .gguf file");
        return st_errno(ST_INPUT, w->path, "examine", errno);
    }
    return S_ISDIR(info.st_mode) ? open_directory(w) : open_gguf(w);
}

status_t weights_open(const char *path, weights_t **out) {
    void *p = NULL;
    TRY(buf_calloc(&p, 1, sizeof(weights_t), "weights handle"));
    weights_t *w = p;
    w->path = buf_strdup(path);
    status_t st = w->path ? load(w) : ST_NOMEM;
    if (st == ST_OK)
        *out = w;
    else
        weights_close(w);
    return st;
}

void weights_close(weights_t *w) {
    if (!w) return;
    for (int64_t i = 0; i < w->shard_count; i++) safetensors_close(w->shard[i]);
    free(w->shard);
    free(w->tensor);
    name_index_release(&w->index);
    gguf_close(w->gguf);
    json_decref(w->config);
    free(w->path);
    free(w);
}

const char *weights_path(const weights_t *w) {
    return w->path;
}
const gguf_t *weights_gguf(const weights_t *w) {
    return w->gguf;
}
const json_t *weights_config(const weights_t *w) {
    return w->config;
}
int64_t weights_count(const weights_t *w) {
    return w->count;
}
const tensor_info_t *weights_at(const weights_t *w, int64_t i) {
    return w->tensor[i];
}

const tensor_info_t *weights_find(const weights_t *w, const char *name) {
    int64_t i = name_index_find(&w->index, name);
    return i < 0 ? NULL : w->tensor[i];
}

/* Of one tensor: name, type, dims and bytes, each hash being the seed of the next. */
static uint64_t hash_tensor(const tensor_info_t *t) {
    uint64_t h = XXH64(t->name, strlen(t->name), 0);
    h = XXH64(t->dtype, strlen(t->dtype), h);
    h = XXH64(t->dim, sizeof t->dim[0] * (size_t)t->rank, h);
    return XXH64(t->data, t->bytes, h);
}

/* The sum makes the result independent of the order of the tensors, so that a model keeps its fingerprint when its
 * shards are cut differently, and lets the tensors be hashed in parallel. */
uint64_t weights_fingerprint_of(const tensor_info_t *const *t, int64_t n) {
    uint64_t sum = 0;
#pragma omp parallel for reduction(+ : sum) schedule(dynamic, 1)
    for (int64_t i = 0; i < n; i++) sum += hash_tensor(t[i]);
    return XXH64(&sum, sizeof sum, (uint64_t)n);
}

void weights_forget(const weights_t *w) {
    for (int64_t i = 0; i < w->count; i++) mapping_forget(w->tensor[i]->data, w->tensor[i]->bytes);
}

uint64_t weights_fingerprint(const weights_t *w) {
    return weights_fingerprint_of(w->tensor, w->count);
}
