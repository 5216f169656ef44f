/* Models without a file of weights: their configuration's spelling, and random weights as transformers has them. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "data/nearest.h"
#include "train/models/model.h"
#include "train/tape/initial.h"

enum { TYPO = 2 }; /* edits between a key and its mistyped form */

static bool reads(const family_t *f, const char *key) {
    for (const char *const *k = f->config_keys; *k; k++)
        if (!strcmp(*k, key)) return true;
    return !strcmp(key, "initializer_range");
}

status_t model_config_spelling(const family_t *f, const json_t *config, const char *where) {
    const char *key;
    json_t *value;
    /* jansson iterates over a const object only through a cast; nothing is changed */
    json_object_foreach((json_t *)(uintptr_t)config, key, value) {
        if (reads(f, key)) continue;
        nearest_t near = {.word = key};
        for (const char *const *k = f->config_keys; *k; k++)
            if (!json_object_get(config, *k)) nearest_offer(&near, *k);
        if (!json_object_get(config, "initializer_range")) nearest_offer(&near, "initializer_range");
        if (near.best && near.distance <= TYPO)
            return st_raise(ST_INPUT, where, "unknown key '%s' (did you mean '%s'?)", key, near.best);
    }
    return ST_OK;
}

static void fill_vector(const param_t *p) {
    size_t n = strlen(p->own);
    bool bias = n >= 5 && !strcmp(p->own + n - 5, ".bias");
    for (int64_t i = 0; i < view_count(&p->value); i++) initial_set(p, i, bias ? 0.0 : 1.0);
}

static status_t fingerprint(const json_t *config, uint64_t seed, uint64_t *out) {
    char *text = json_dumps(config, JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(17));
    if (!text) return st_nomem("configuration", 0);
    *out = XXH64(text, strlen(text), seed);
    free(text);
    return ST_OK;
}

status_t model_init(model_t *m, const json_t *config, uint64_t seed) {
    double std;
    TRY(config_f64(config, m->path, "initializer_range", 0.02, &std));
    if (!(std > 0 && std < 1e3)) return st_raise(ST_INPUT, m->path, "initializer_range %g is out of range", std);
    double residual = std / sqrt(2.0 * (double)m->config.layers);
    for (int64_t i = 0; i < m->n_weight; i++) {
        const param_t *p = &m->params.item[m->weight[i].param];
        if (p->shared) continue; /* its owner has filled it */
        if (p->value.rank > 1)
            initial_normal(p, m->weight[i].flags & WEIGHT_RESIDUAL ? residual : std, seed);
        else
            fill_vector(p);
    }
    return fingerprint(config, seed, &m->fingerprint);
}
