#include "train/run/base.h"
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include "train/config/model_file.h"
#include "train/run/registry.h"

base_source_t base_of_config(const config_t *config) {
    return (base_source_t){config->model.path, config->model.config, config->model.tokenizer,
                           (uint64_t)config->training.seed};
}

/* --- from files --- */

static status_t open_files(const char *path, loaded_t *l) {
    TRY(weights_open(path, &l->weights));
    TRY(weights_gguf(l->weights) ? tokenizer_open_gguf(weights_gguf(l->weights), &l->tokenizer)
                                 : tokenizer_open_dir(path, &l->tokenizer));
    if (!weights_gguf(l->weights)) {
        l->config = json_incref((json_t *)(uintptr_t)weights_config(l->weights));
        l->tokenizer_dir = buf_strdup(path);
        if (!l->tokenizer_dir) return ST_NOMEM;
    }
    return model_open(l->weights, DT_F32, &l->model);
}

/* --- made anew --- */

static status_t open_tokenizer(const char *path, loaded_t *l) {
    struct stat s;
    if (!stat(path, &s) && S_ISDIR(s.st_mode)) {
        l->tokenizer_dir = buf_strdup(path);
        return l->tokenizer_dir ? tokenizer_open_dir(path, &l->tokenizer) : ST_NOMEM;
    }
    gguf_t *file = NULL;
    TRY(gguf_open(path, &file));
    status_t st = tokenizer_open_gguf(file, &l->tokenizer);
    gguf_close(file);
    return st;
}

/* What the configuration does not say and the tokenizer knows. */
static status_t complete(loaded_t *l) {
    int n = 0;
    const int32_t *prefix = tokenizer_prefix(l->tokenizer, &n);
    const struct {
        const char *key;
        int32_t value;
    } rows[] = {{"vocab_size", tokenizer_vocab_size(l->tokenizer)},
                {"eos_token_id", tokenizer_eos(l->tokenizer)},
                {"bos_token_id", n == 1 ? prefix[0] : tokenizer_eos(l->tokenizer)}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!json_object_get(l->config, rows[i].key) && rows[i].value >= 0 &&
            json_object_set_new(l->config, rows[i].key, json_integer(rows[i].value)))
            return st_nomem("model configuration", 0);
    return ST_OK;
}

static status_t open_anew(const base_source_t *source, loaded_t *l) {
    TRY(model_file_read(source->config, &l->config));
    TRY(open_tokenizer(source->tokenizer, l));
    TRY(complete(l));
    l->seed = source->seed;
    return model_open_config(l->config, source->config, DT_F32, &l->model);
}

/* --- both --- */

status_t base_open(const base_source_t *source, loaded_t *l) {
    TRY(source->path ? open_files(source->path, l) : open_anew(source, l));
    if (tokenizer_vocab_size(l->tokenizer) > l->model.config.vocab)
        return st_raise(ST_INPUT, l->model.path,
                        "the tokenizer has %d ids, the model only %lld rows; the two do not belong together",
                        (int)tokenizer_vocab_size(l->tokenizer), (long long)l->model.config.vocab);
    return special_open(&l->special, l->tokenizer, &l->model);
}

status_t base_share(const loaded_t *base, loaded_t *l) {
    l->borrowed = true;
    l->weights = base->weights;
    l->config = base->config;
    l->tokenizer = base->tokenizer;
    l->tokenizer_dir = base->tokenizer_dir;
    l->seed = base->seed;
    l->special = base->special;
    TRY(l->weights ? model_open(l->weights, DT_F32, &l->model)
                   : model_open_config(l->config, base->model.path, DT_F32, &l->model));
    return l->special.n ? model_grow(&l->model, base->model.new_first, base->model.n_new) : ST_OK;
}

status_t base_load(loaded_t *l, const loaded_t *base, bool with_grad) {
    model_t *m = &l->model;
    for (int64_t i = 0; base && i < m->n_weight; i++) {
        int param = m->weight[i].param;
        bool grown = m->n_new && (param == m->embed || param == m->head); /* its added rows are this model's own */
        if (!grown) param_share(&m->params, param, &base->model.params);
    }
    TRY(param_set_alloc(&m->params, with_grad));
    TRY(l->weights ? model_load(m, l->weights) : model_init(m, l->config, l->seed));
    model_init_new(m, l->special.added, l->special.seed);
    return ST_OK;
}

status_t base_find_run(const char *path, config_t *config, bool *run) {
    char file[PATH_MAX];
    struct stat s;
    snprintf(file, sizeof file, "%s/metrics.jsonl", path);
    *run = !stat(file, &s);
    snprintf(file, sizeof file, "%s/config.yaml", path);
    return *run ? config_load(file, NULL, 0, registry_methods(), config) : ST_OK;
}
