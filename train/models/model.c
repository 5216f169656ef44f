#include "train/models/model.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

status_t config_i64(const json_t *c, const char *where, const char *key, int64_t fallback, int64_t *out) {
    const json_t *v = json_object_get(c, key);
    if (!v || json_is_null(v)) {
        *out = fallback;
        return ST_OK;
    }
    if (!json_is_integer(v)) return st_raise(ST_INPUT, where, "'%s' must be an integer", key);
    *out = json_integer_value(v);
    return ST_OK;
}

status_t config_f64(const json_t *c, const char *where, const char *key, double fallback, double *out) {
    const json_t *v = json_object_get(c, key);
    if (!v || json_is_null(v)) {
        *out = fallback;
        return ST_OK;
    }
    if (!json_is_number(v)) return st_raise(ST_INPUT, where, "'%s' must be a number", key);
    *out = json_number_value(v);
    return ST_OK;
}

status_t config_bool(const json_t *c, const char *where, const char *key, bool fallback, bool *out) {
    const json_t *v = json_object_get(c, key);
    if (!v || json_is_null(v)) {
        *out = fallback;
        return ST_OK;
    }
    if (!json_is_boolean(v)) return st_raise(ST_INPUT, where, "'%s' must be true or false", key);
    *out = json_is_true(v);
    return ST_OK;
}

status_t config_string(const json_t *c, const char *where, const char *key, const char *fallback, const char **out) {
    const json_t *v = json_object_get(c, key);
    if (v && !json_is_null(v) && !json_is_string(v)) return st_raise(ST_INPUT, where, "'%s' must be a string", key);
    *out = json_is_string(v) ? json_string_value(v) : fallback;
    return ST_OK;
}

status_t gguf_need_i64(const gguf_t *g, const char *where, const char *arch, const char *key, int64_t *out) {
    char full[128];
    snprintf(full, sizeof full, "%s.%s", arch, key);
    if (!gguf_get_i64(g, full, out))
        return st_raise(ST_INPUT, where, "metadata key '%s' is missing or not an integer", full);
    return ST_OK;
}

status_t model_config_check(const model_config_t *c, const char *where) {
    const struct {
        const char *name;
        int64_t value, most;
    } rows[] = {
        {"vocabulary size", c->vocab, 1 << 24},
        {"hidden size", c->hidden, 1 << 17},
        {"number of layers", c->layers, 1 << 12},
        {"number of heads", c->heads, 1 << 12},
        {"number of key/value heads", c->kv_heads, 1 << 12},
        {"head size", c->head_dim, 1 << 12},
        {"feed-forward size", c->ff, 1 << 20},
        {"number of positions", c->max_positions, INT32_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].value < 1 || rows[i].value > rows[i].most)
            return st_raise(ST_INPUT, where, "%s is %lld, which is out of range 1..%lld", rows[i].name,
                            (long long)rows[i].value, (long long)rows[i].most);
    if (c->heads % c->kv_heads)
        return st_raise(ST_INPUT, where, "%lld heads cannot share %lld key/value heads", (long long)c->heads,
                        (long long)c->kv_heads);
    if (!(c->eps > 0) || !(c->eps < 1)) return st_raise(ST_INPUT, where, "norm epsilon %g is out of range", c->eps);
    return ST_OK;
}

static const family_t *family_of_gguf(const gguf_t *g) {
    const char *s;
    size_t n;
    if (!gguf_get_str(g, "general.architecture", &s, &n)) return NULL;
    for (const family_t *const *f = families; *f; f++)
        if ((*f)->gguf_arch && strlen((*f)->gguf_arch) == n && !memcmp((*f)->gguf_arch, s, n)) return *f;
    return NULL;
}

static const family_t *family_of_config(const json_t *config) {
    const char *type = json_string_value(json_object_get(config, "model_type"));
    for (const family_t *const *f = families; type && *f; f++)
        for (const char *const *t = (*f)->model_types; *t; t++)
            if (!strcmp(*t, type)) return *f;
    return NULL;
}

static status_t refuse_family(const char *where, const char *key, const char *s, size_t n) {
    char known[512] = "";
    size_t used = 0;
    for (const family_t *const *f = families; *f && used < sizeof known; f++)
        for (const char *const *t = (*f)->model_types; *t && used < sizeof known; t++)
            used += (size_t)snprintf(known + used, sizeof known - used, "%s%s", used ? ", " : "", *t);
    return st_raise(ST_INPUT, where, "%s '%.*s' is not a supported family; these are: %s", key, (int)(n < 64 ? n : 64),
                    s, known);
}

/* What every way of opening begins and ends with. */
static status_t begin(model_t *m, const char *path, dtype_t real) {
    memset(m, 0, sizeof *m);
    param_set_init(&m->params, real);
    m->embed = m->head = m->final_norm = m->final_bias = m->positions = m->new_embed = m->new_head = -1;
    m->path = buf_strdup(path);
    return m->path ? ST_OK : ST_NOMEM;
}

static status_t finish(model_t *m, const char *where) {
    TRY(model_config_check(&m->config, where));
    m->file_vocab = m->config.vocab;
    void *p;
    TRY(buf_calloc(&p, m->config.layers * m->family->layer_params, sizeof(int), "layer parameters"));
    m->layer_param = p;
    return m->family->declare(m);
}

static status_t open_hf(const json_t *config, const char *path, const char *where, model_t *m) {
    m->family = family_of_config(config);
    if (!m->family) {
        const char *s = json_string_value(json_object_get(config, "model_type"));
        return refuse_family(path, "model_type", s ? s : "", s ? strlen(s) : 0);
    }
    TRY(m->family->read_hf(config, where, &m->config));
    return finish(m, where);
}

static status_t open_gguf(const gguf_t *g, const char *path, model_t *m) {
    m->family = family_of_gguf(g);
    if (!m->family) {
        const char *s = "";
        size_t n = 0;
        gguf_get_str(g, "general.architecture", &s, &n);
        return refuse_family(path, "general.architecture", s, n);
    }
    TRY(m->family->read_gguf(g, path, &m->config));
    return finish(m, path);
}

status_t model_open(const weights_t *w, dtype_t real, model_t *m) {
    TRY(begin(m, weights_path(w), real));
    if (weights_gguf(w)) return open_gguf(weights_gguf(w), weights_path(w), m);
    char where[1024];
    snprintf(where, sizeof where, "%s/config.json", weights_path(w));
    return open_hf(weights_config(w), weights_path(w), where, m);
}

status_t model_open_config(const json_t *config, const char *where, dtype_t real, model_t *m) {
    TRY(begin(m, where, real));
    TRY(open_hf(config, where, where, m));
    return model_config_spelling(m->family, config, where);
}

void model_close(model_t *m) {
    for (int64_t i = 0; i < m->n_weight; i++) {
        free(m->weight[i].hf);
        free(m->weight[i].gguf);
    }
    for (int64_t i = 0; i < m->n_site; i++) free(m->site[i].module);
    free(m->weight);
    free(m->site);
    free(m->layer_param);
    free(m->config.inv_freq);
    free(m->path);
    param_set_release(&m->params);
    memset(m, 0, sizeof *m);
}

static char *layered(const char *format, int64_t layer) {
    if (layer < 0) return buf_strdup(format);
    const char *mark = strstr(format, "%d"); /* only a literal %d is replaced: names are data, not formats */
    if (!mark) return buf_strdup(format);
    strbuf_t b = {0};
    if (strbuf_addf(&b, "%.*s%lld%s", (int)(mark - format), format, (long long)layer, mark + 2) != ST_OK) return NULL;
    return b.data;
}

status_t model_declare(model_t *m, const char *hf, const char *gguf, int64_t layer, int rank, int64_t rows,
                       int64_t cols, int flags, int *param) {
    void *data = m->weight;
    TRY(buf_reserve(&data, &m->cap_weight, m->n_weight + 1, sizeof *m->weight, "weight table"));
    m->weight = data;
    model_weight_t *w = &m->weight[m->n_weight];
    *w = (model_weight_t){.flags = flags, .hf = layered(hf, layer), .gguf = gguf ? layered(gguf, layer) : NULL};
    m->n_weight++;
    if (!w->hf || (gguf && !w->gguf)) return ST_NOMEM;
    const int64_t dim[2] = {rows, cols};
    TRY(param_declare(&m->params, w->hf, rank, dim, false, rank > 1, &w->param));
    *param = w->param;
    return ST_OK;
}

status_t model_declare_linear(model_t *m, const char *module, const char *gguf, int64_t layer, int64_t out, int64_t in,
                              bool bias, int flags, int *site) {
    void *data = m->site;
    TRY(buf_reserve(&data, &m->cap_site, m->n_site + 1, sizeof *m->site, "site table"));
    m->site = data;
    site_t *s = &m->site[m->n_site];
    *s = (site_t){.module = layered(module, layer), .layer = layer, .in = in, .out = out, .bias = -1};
    *site = (int)m->n_site++;
    if (!s->module) return ST_NOMEM;
    const char *dot = strrchr(s->module, '.');
    s->role = dot ? dot + 1 : s->module;
    s->conv1d = flags & WEIGHT_TRANSPOSED;
    s->feed_forward = flags & WEIGHT_FEED_FORWARD;
    char hf[256], gg[256];
    snprintf(hf, sizeof hf, "%s.weight", module);
    snprintf(gg, sizeof gg, "%s.weight", gguf ? gguf : "");
    TRY(model_declare(m, hf, gguf ? gg : NULL, layer, 2, out, in, flags, &s->weight));
    if (!bias) return ST_OK;
    snprintf(hf, sizeof hf, "%s.bias", module);
    snprintf(gg, sizeof gg, "%s.bias", gguf ? gguf : "");
    return model_declare(m, hf, gguf ? gg : NULL, layer, 1, out, 0, flags & ~WEIGHT_TRANSPOSED, &m->site[*site].bias);
}

const model_weight_t *model_weight_of(const model_t *m, const site_t *site) {
    for (int64_t i = 0; i < m->n_weight; i++)
        if (m->weight[i].param == site->weight) return &m->weight[i];
    return NULL;
}
