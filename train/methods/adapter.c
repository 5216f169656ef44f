#include "train/methods/adapter.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/safetensors.h"
#include "kernels/buf.h"
#include "train/checkpoint/checkpoint.h"

struct adapter {
    char *path;
    json_t *config;
    safetensors_t *file; /* a PEFT directory ... */
    checkpoint_t *state; /* ... or a checkpoint */
};

static status_t open_peft(adapter_t *a, const char *config_path) {
    json_error_t e;
    a->config = json_load_file(config_path, JSON_REJECT_DUPLICATES, &e);
    if (!a->config) return st_raise(ST_INPUT, config_path, "line %d, column %d: %s", e.line, e.column, e.text);
    if (!json_is_string(json_object_get(a->config, "peft_type")))
        return st_raise(ST_INPUT, config_path, "has no 'peft_type'");
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

static status_t open_state(adapter_t *a, const char *path) {
    TRY(checkpoint_open(path, &a->state));
    json_error_t e;
    a->config = json_loads(checkpoint_meta(a->state)->method, 0, &e);
    if (!json_is_string(json_object_get(a->config, "peft_type")))
        return st_raise(ST_INPUT, path, "does not say which method it holds");
    return ST_OK;
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
        if (st == ST_OK) {
            a->config = json_loads(checkpoint_meta(a->state)->method, 0, NULL);
            if (!json_is_object(a->config))
                st = st_raise(ST_INPUT, a->path, "its checkpoint does not say which method it holds");
        }
    }
    strbuf_release(&path);
    return st;
}

static status_t open_any(adapter_t *a) {
    struct stat s;
    if (stat(a->path, &s)) return st_raise(ST_INPUT, a->path, "no such adapter");
    if (!S_ISDIR(s.st_mode)) return open_state(a, a->path);
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
    if (st != ST_OK) {
        adapter_close(a);
        return st;
    }
    *out = a;
    return ST_OK;
}

void adapter_close(adapter_t *a) {
    if (!a) return;
    json_decref(a->config);
    safetensors_close(a->file);
    checkpoint_close(a->state);
    free(a->path);
    free(a);
}

const char *adapter_path(const adapter_t *a) {
    return a->path;
}
const json_t *adapter_config(const adapter_t *a) {
    return a->config;
}
uint64_t adapter_base(const adapter_t *a) {
    return a->state ? checkpoint_meta(a->state)->base_fingerprint : 0;
}
const char *adapter_base_path(const adapter_t *a) {
    const char *path = a->state ? checkpoint_meta(a->state)->base_path
                                : json_string_value(json_object_get(a->config, "base_model_name_or_path"));
    return path && *path ? path : NULL;
}
int64_t adapter_count(const adapter_t *a) {
    return a->state ? checkpoint_count(a->state) : safetensors_count(a->file);
}

const char *adapter_name(const adapter_t *a, int64_t i) {
    return a->state ? checkpoint_at(a->state, i)->name : safetensors_at(a->file, i)->name;
}

static const tensor_info_t *find_tensor(const adapter_t *a, const char *name) {
    for (int64_t i = 0; i < safetensors_count(a->file); i++)
        if (!strcmp(safetensors_at(a->file, i)->name, name)) return safetensors_at(a->file, i);
    return NULL;
}

view_t adapter_shape(const adapter_t *a, const char *name) {
    view_t v = {.dtype = DT_F32};
    const checkpoint_tensor_t *c = a->state ? checkpoint_find(a->state, name) : NULL;
    const tensor_info_t *t = a->file ? find_tensor(a, name) : NULL;
    if (c) {
        v.rank = c->rank;
        for (int i = 0; i < c->rank; i++) v.dim[i] = c->dim[i];
    } else if (t && t->rank <= VIEW_MAX_RANK) {
        v.rank = t->rank;
        for (int i = 0; i < t->rank; i++) v.dim[i] = t->dim[i];
    }
    return v;
}

static status_t load_one(const adapter_t *a, const param_t *p) {
    view_t v = adapter_shape(a, p->name);
    if (!v.rank) return st_raise(ST_INPUT, a->path, "tensor '%s' is missing", p->name);
    bool same = v.rank == p->value.rank;
    for (int i = 0; same && i < v.rank; i++) same = v.dim[i] == p->value.dim[i];
    if (!same)
        return st_raise(
            ST_INPUT, a->path, "tensor '%s' has shape [%lld, %lld], the configuration asks for [%lld, %lld]", p->name,
            (long long)v.dim[0], (long long)v.dim[1], (long long)p->value.dim[0], (long long)p->value.dim[1]);
    if (a->file) return tensor_info_read_f32(find_tensor(a, p->name), 0, view_count(&v), p->value.data);
    memcpy(p->value.data, checkpoint_find(a->state, p->name)->data, view_bytes(&p->value));
    return ST_OK;
}

status_t adapter_load(const adapter_t *a, model_t *m) {
    for (int64_t i = 0; i < adapter_count(a); i++) {
        int p = param_find(&m->params, adapter_name(a, i));
        if (p < 0 || !m->params.item[p].trainable)
            return st_raise(ST_INPUT, a->path, "tensor '%s' fits nothing in this model and configuration",
                            adapter_name(a, i));
    }
    for (int64_t i = 0; i < m->params.count; i++)
        if (m->params.item[i].trainable) TRY(load_one(a, &m->params.item[i]));
    return ST_OK;
}
