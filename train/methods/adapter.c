#include "train/methods/adapter.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/safetensors.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint.h"
#include "train/methods/adapter_gguf.h"
#include "train/methods/method.h"
#include "train/models/build.h"

enum { SCOPE_SIZE = 64 };

struct adapter {
    char *path;
    json_t *parts; /* array of descriptions */
    int part;
    char
        scope[SCOPE_SIZE]; /* in front of the names of the selected part's tensors in a checkpoint of several methods */
    safetensors_t *file;   /* a PEFT directory ... */
    adapter_gguf_t *gguf;  /* ... a GGUF ... */
    checkpoint_t *state;   /* ... or a checkpoint */
};

/* One description or an array of them; takes the reference. */
static status_t set_parts(adapter_t *a, const char *where, json_t *description) {
    a->parts = json_is_array(description) ? description : json_array();
    if (!a->parts || (a->parts != description && json_array_append_new(a->parts, description)))
        return st_nomem("adapter", 0);
    for (size_t i = 0; i < json_array_size(a->parts); i++)
        if (!json_is_string(json_object_get(json_array_get(a->parts, i), "peft_type")))
            return st_raise(ST_INPUT, where, "has no 'peft_type' to say which method it holds");
    if (!json_array_size(a->parts)) return st_raise(ST_INPUT, where, "holds no method");
    return ST_OK;
}

static status_t open_peft(adapter_t *a, const char *config_path) {
    json_error_t e;
    json_t *config = json_load_file(config_path, JSON_REJECT_DUPLICATES, &e);
    if (!config) return st_raise(ST_INPUT, config_path, "line %d, column %d: %s", e.line, e.column, e.text);
    TRY(set_parts(a, config_path, config));
    strbuf_t path = {0};
    status_t st = strbuf_addf(&path, "%s/adapter_model.safetensors", a->path);
    if (st == ST_OK) st = safetensors_open(path.data, &a->file);
    strbuf_release(&path);
    return st;
}

static void warn_rejected(void *arg, const char *text) {
    (void)arg;
    fprintf(stderr, "graft: warning: %s\n", text);
}

static status_t read_methods(adapter_t *a, const char *where) {
    json_t *description = json_loads(checkpoint_meta(a->state)->method, 0, NULL);
    if (!description) return st_raise(ST_INPUT, where, "does not say which method it holds");
    return set_parts(a, where, description);
}

static status_t open_state(adapter_t *a, const char *path) {
    TRY(checkpoint_open(path, &a->state));
    return read_methods(a, path);
}

static status_t open_run(adapter_t *a) {
    strbuf_t path = {0};
    status_t st = strbuf_addf(&path, "%s/final.h5", a->path);
    if (st == ST_OK && access(path.data, R_OK) == 0) {
        st = open_state(a, path.data);
    } else if (st == ST_OK) {
        st = checkpoint_latest(a->path, warn_rejected, NULL, &a->state);
        if (st == ST_OK && !a->state)
            st = st_raise(ST_INPUT, a->path,
                          "is no adapter: it holds neither adapter_config.json nor final.h5 nor a checkpoint");
        if (st == ST_OK) st = read_methods(a, a->path);
    }
    strbuf_release(&path);
    return st;
}

static status_t open_gguf(adapter_t *a) {
    json_t *config;
    TRY(adapter_gguf_open(a->path, &a->gguf, &config));
    return set_parts(a, a->path, config);
}

static status_t open_any(adapter_t *a) {
    struct stat s;
    if (stat(a->path, &s)) return st_raise(ST_INPUT, a->path, "no such adapter");
    if (!S_ISDIR(s.st_mode)) return adapter_gguf_recognise(a->path) ? open_gguf(a) : open_state(a, a->path);
    strbuf_t config = {0};
    status_t st = strbuf_addf(&config, "%s/adapter_config.json", a->path);
    if (st == ST_OK) st = access(config.data, F_OK) == 0 ? open_peft(a, config.data) : open_run(a);
    strbuf_release(&config);
    return st;
}

status_t adapter_open(const char *path, adapter_t **out) {
    void *p;
    TRY(buf_calloc(&p, 1, sizeof(adapter_t), "adapter"));
    adapter_t *a = p;
    a->path = buf_strdup(path);
    status_t st = a->path ? open_any(a) : ST_NOMEM;
    if (st == ST_OK) adapter_select(a, 0);
    if (st != ST_OK) {
        adapter_close(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

void adapter_close(adapter_t *a) {
    if (!a) return;
    json_decref(a->parts);
    safetensors_close(a->file);
    adapter_gguf_close(a->gguf);
    checkpoint_close(a->state);
    free(a->path);
    free(a);
}

const char *adapter_path(const adapter_t *a) {
    return a->path;
}
static const char *part_type(const adapter_t *a, int part) {
    return json_string_value(json_object_get(json_array_get(a->parts, (size_t)part), "peft_type"));
}

int adapter_parts(const adapter_t *a) {
    return (int)json_array_size(a->parts);
}

/* Of several parts each has a scope, but for the one whose tensors are the base's own. */
static void scope_of(const adapter_t *a, int part, char out[SCOPE_SIZE]) {
    const method_t *method = method_find_peft(part_type(a, part));
    out[0] = 0;
    if (adapter_parts(a) == 1 || (method && method->trains_base)) return;
    snprintf(out, SCOPE_SIZE, "%s.", part_type(a, part));
    for (char *c = out; *c; c++)
        if (*c >= 'A' && *c <= 'Z') *c = (char)(*c - 'A' + 'a');
}

void adapter_select(adapter_t *a, int part) {
    a->part = part;
    scope_of(a, part, a->scope);
}

status_t adapter_find(adapter_t *a, const char *peft_type) {
    for (int i = 0; i < adapter_parts(a); i++)
        if (!strcmp(part_type(a, i), peft_type)) {
            adapter_select(a, i);
            return ST_OK;
        }
    return st_raise(ST_INPUT, a->path, "holds a method of the type %s; %s is asked for", part_type(a, 0), peft_type);
}

const json_t *adapter_config(const adapter_t *a) {
    return json_array_get(a->parts, (size_t)a->part);
}
uint64_t adapter_base(const adapter_t *a) {
    return a->state ? checkpoint_meta(a->state)->base_fingerprint : 0;
}
const char *adapter_base_path(const adapter_t *a) {
    const char *path = a->state ? checkpoint_meta(a->state)->base_path
                                : json_string_value(json_object_get(adapter_config(a), "base_model_name_or_path"));
    return path && *path ? path : NULL;
}
const char *adapter_run_config(const adapter_t *a) {
    return a->state ? checkpoint_meta(a->state)->config_yaml : NULL;
}
status_t adapter_bind(adapter_t *a, const model_t *m) {
    return a->gguf ? adapter_gguf_bind(a->gguf, m) : ST_OK;
}

int64_t adapter_count(const adapter_t *a) {
    if (a->gguf) return adapter_gguf_count(a->gguf);
    return a->state ? checkpoint_count(a->state) : safetensors_count(a->file);
}

const char *adapter_name(const adapter_t *a, int64_t i) {
    if (a->gguf) return adapter_gguf_name(a->gguf, i);
    return a->state ? checkpoint_at(a->state, i)->name : safetensors_at(a->file, i)->name;
}

/* The part's own name of a tensor, NULL if it belongs to another part or to none. */
static const char *own_name(const adapter_t *a, const char *full) {
    size_t n = strlen(a->scope);
    bool shared =
        !strncmp(full, MODEL_NEW_PREFIX, strlen(MODEL_NEW_PREFIX)) || !strncmp(full, GOAL_SCOPE, strlen(GOAL_SCOPE));
    for (int i = 0; !n && i < adapter_parts(a); i++) {
        char scope[SCOPE_SIZE];
        scope_of(a, i, scope);
        if (scope[0] && !strncmp(full, scope, strlen(scope))) return NULL;
    }
    return shared || strncmp(full, a->scope, n) ? NULL : full + n;
}

static int64_t find_tensor(const adapter_t *a, const char *name) {
    for (int64_t i = 0; i < adapter_count(a); i++) {
        const char *own = own_name(a, adapter_name(a, i));
        if (own && !strcmp(own, name)) return i;
    }
    return -1;
}

static view_t shape_of(const adapter_t *a, int64_t i) {
    view_t v = {.dtype = DT_F32};
    if (i < 0) return v;
    const tensor_info_t *t = a->gguf ? adapter_gguf_at(a->gguf, i) : a->file ? safetensors_at(a->file, i) : NULL;
    int rank = t ? t->rank : checkpoint_at(a->state, i)->rank;
    const int64_t *dim = t ? t->dim : checkpoint_at(a->state, i)->dim;
    if (rank > VIEW_MAX_RANK) return v;
    v.rank = rank;
    for (int k = 0; k < rank; k++) v.dim[k] = dim[k];
    return v;
}

view_t adapter_shape(const adapter_t *a, const char *name) {
    return shape_of(a, find_tensor(a, name));
}

static status_t read_tensor(const adapter_t *a, int64_t i, float *out) {
    view_t v = shape_of(a, i);
    if (a->gguf) return adapter_gguf_read(a->gguf, i, out);
    if (a->file) return tensor_info_read_f32(safetensors_at(a->file, i), 0, view_count(&v), out);
    memcpy(out, checkpoint_at(a->state, i)->data, view_bytes(&v));
    return ST_OK;
}

static int64_t find_shared(const adapter_t *a, const char *name) {
    for (int64_t i = 0; i < adapter_count(a); i++)
        if (!strcmp(adapter_name(a, i), name)) return i;
    return -1;
}

view_t adapter_shared_shape(const adapter_t *a, const char *name) {
    return shape_of(a, find_shared(a, name));
}

status_t adapter_shared_read(const adapter_t *a, const char *name, float *out) {
    int64_t i = find_shared(a, name);
    return i < 0 ? st_raise(ST_INPUT, a->path, "tensor '%s' is missing", name) : read_tensor(a, i, out);
}

static status_t load_one(const adapter_t *a, const param_t *p) {
    int64_t i = find_tensor(a, p->own);
    view_t v = adapter_shape(a, p->own);
    if (!v.rank) return st_raise(ST_INPUT, a->path, "tensor '%s' is missing", p->own);
    bool same = v.rank == p->value.rank;
    for (int k = 0; same && k < v.rank; k++) same = v.dim[k] == p->value.dim[k];
    if (!same)
        return st_raise(
            ST_INPUT, a->path, "tensor '%s' has shape [%lld, %lld], the configuration asks for [%lld, %lld]", p->own,
            (long long)v.dim[0], (long long)v.dim[1], (long long)p->value.dim[0], (long long)p->value.dim[1]);
    return read_tensor(a, i, p->value.data);
}

static bool takes(const param_t *p, int64_t n, const char *own) {
    for (int64_t i = 0; i < n; i++)
        if (p[i].trainable && !strcmp(p[i].own, own)) return true;
    return false;
}

status_t adapter_load(const adapter_t *a, model_t *m, int first, int last) {
    const param_t *p = m->params.item;
    for (int64_t i = 0; i < adapter_count(a); i++) {
        const char *own = own_name(a, adapter_name(a, i));
        if (own && !takes(p + first, last - first, own))
            return st_raise(ST_INPUT, a->path, "tensor '%s' fits nothing in this model and configuration", own);
    }
    for (int i = first; i < last; i++)
        if (p[i].trainable) TRY(load_one(a, &p[i]));
    return ST_OK;
}
