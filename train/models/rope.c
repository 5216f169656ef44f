/* Frequencies of rotary positions and their scaled forms (formats.md 4.3), in double. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/models/model.h"

static double plain_frequency(const model_config_t *c, int64_t i) {
    return pow(c->rope_theta, -2.0 * (double)i / (double)c->head_dim);
}

bool rope_is_plain(const model_config_t *c) {
    for (int64_t i = 0; i < c->head_dim / 2; i++)
        if (c->inv_freq[i] < plain_frequency(c, i) || c->inv_freq[i] > plain_frequency(c, i)) return false;
    return true;
}

static status_t base_frequencies(const char *where, model_config_t *c) {
    if (!(c->rope_theta > 0)) return st_raise(ST_INPUT, where, "rope_theta %g must be positive", c->rope_theta);
    if (c->head_dim % 2)
        return st_raise(ST_INPUT, where, "head size %lld is odd; rotary positions need an even one",
                        (long long)c->head_dim);
    void *p;
    TRY(buf_calloc(&p, c->head_dim / 2, sizeof(double), "rotary frequencies"));
    free(c->inv_freq);
    c->inv_freq = p;
    for (int64_t i = 0; i < c->head_dim / 2; i++) c->inv_freq[i] = plain_frequency(c, i);
    return ST_OK;
}

static status_t positive(const json_t *s, const char *where, const char *key, double fallback, double *out) {
    TRY(config_f64(s, where, key, fallback, out));
    if (!(*out > 0)) return st_raise(ST_INPUT, where, "rope scaling needs a positive '%s'", key);
    return ST_OK;
}

static status_t scale_linear(const json_t *s, const char *where, model_config_t *c) {
    double factor;
    TRY(positive(s, where, "factor", 0, &factor));
    for (int64_t i = 0; i < c->head_dim / 2; i++) c->inv_freq[i] /= factor;
    return ST_OK;
}

static status_t scale_llama3(const json_t *s, const char *where, model_config_t *c) {
    double factor, low, high, original;
    TRY(positive(s, where, "factor", 0, &factor));
    TRY(positive(s, where, "low_freq_factor", 0, &low));
    TRY(positive(s, where, "high_freq_factor", 0, &high));
    TRY(positive(s, where, "original_max_position_embeddings", 0, &original));
    if (high <= low)
        return st_raise(ST_INPUT, where, "rope scaling: high_freq_factor %g must exceed low_freq_factor %g", high, low);
    for (int64_t i = 0; i < c->head_dim / 2; i++) {
        double f = c->inv_freq[i], wavelength = 2 * 3.14159265358979323846 / f;
        if (wavelength < original / high) continue;
        double smooth = (original / wavelength - low) / (high - low);
        c->inv_freq[i] = wavelength > original / low ? f / factor : (1 - smooth) * f / factor + smooth * f;
    }
    return ST_OK;
}

static status_t scale_none(const json_t *s, const char *where, model_config_t *c) {
    (void)s, (void)where, (void)c;
    return ST_OK;
}

static const struct {
    const char *type;
    status_t (*apply)(const json_t *, const char *, model_config_t *);
} scalings[] = {{"default", scale_none}, {"linear", scale_linear}, {"llama3", scale_llama3}};

status_t rope_from_hf(const json_t *config, const char *where, model_config_t *c) {
    const json_t *scaling = json_object_get(config, "rope_scaling"), *v5 = json_object_get(config, "rope_parameters");
    if (json_is_object(v5)) scaling = v5; /* transformers 5 keeps theta beside the scaling */
    TRY(config_f64(json_is_object(v5) ? v5 : config, where, "rope_theta", 10000.0, &c->rope_theta));
    TRY(base_frequencies(where, c));
    if (!scaling || json_is_null(scaling)) return ST_OK;
    if (!json_is_object(scaling)) return st_raise(ST_INPUT, where, "'rope_scaling' must be an object or null");
    const char *type = json_string_value(json_object_get(scaling, "rope_type"));
    if (!type) type = json_string_value(json_object_get(scaling, "type"));
    if (!type) return st_raise(ST_INPUT, where, "'rope_scaling' names no rope_type");
    for (size_t i = 0; i < sizeof scalings / sizeof *scalings; i++)
        if (!strcmp(scalings[i].type, type)) return scalings[i].apply(scaling, where, c);
    return st_raise(ST_INPUT, where, "rope scaling '%s' is not supported; default, linear and llama3 are", type);
}

static status_t divide_by_tensor(const gguf_t *file, const char *where, model_config_t *c) {
    for (int64_t i = 0; i < gguf_tensor_count(file); i++) {
        const tensor_info_t *t = gguf_tensor_at(file, i);
        if (strcmp(t->name, "rope_freqs.weight")) continue;
        int64_t half = c->head_dim / 2;
        if (tensor_info_count(t) != half)
            return st_raise(ST_INPUT, where, "tensor '%s' must have %lld elements", t->name, (long long)half);
        for (int64_t k = 0; k < half; k++) {
            float f;
            TRY(tensor_info_read_f32(t, k, 1, &f));
            if (!(f > 0)) return st_raise(ST_INPUT, where, "tensor '%s' has a value that is not positive", t->name);
            c->inv_freq[k] /= (double)f;
        }
    }
    return ST_OK;
}

status_t rope_from_gguf(const gguf_t *file, const char *where, const char *arch, model_config_t *c) {
    char key[128];
    int64_t dims = c->head_dim;
    snprintf(key, sizeof key, "%s.rope.dimension_count", arch);
    gguf_get_i64(file, key, &dims);
    if (dims != c->head_dim)
        return st_raise(ST_INPUT, where,
                        "%s %lld differs from the head size %lld; partial rotary positions are not supported", key,
                        (long long)dims, (long long)c->head_dim);
    c->rope_theta = 10000.0;
    snprintf(key, sizeof key, "%s.rope.freq_base", arch);
    gguf_get_f64(file, key, &c->rope_theta);
    TRY(base_frequencies(where, c));
    const char *type = "linear";
    size_t n = strlen(type);
    double factor = 1.0;
    snprintf(key, sizeof key, "%s.rope.scale_linear", arch);
    gguf_get_f64(file, key, &factor);
    snprintf(key, sizeof key, "%s.rope.scaling.factor", arch);
    gguf_get_f64(file, key, &factor);
    snprintf(key, sizeof key, "%s.rope.scaling.type", arch);
    gguf_get_str(file, key, &type, &n);
    bool none = n == 4 && !memcmp(type, "none", 4), linear = n == 6 && !memcmp(type, "linear", 6);
    if (!none && !linear)
        return st_raise(ST_INPUT, where, "%s '%.*s' is not supported; none and linear are", key, (int)(n < 32 ? n : 32),
                        type);
    if (linear && !(factor > 0)) return st_raise(ST_INPUT, where, "%s.rope.scaling.factor must be positive", arch);
    for (int64_t i = 0; linear && i < c->head_dim / 2; i++) c->inv_freq[i] /= factor;
    return divide_by_tensor(file, where, c);
}
