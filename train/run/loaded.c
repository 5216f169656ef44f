#include "train/run/loaded.h"
#include <stdio.h>
#include <string.h>

static status_t open_base(const char *path, loaded_t *l) {
    TRY(weights_open(path, &l->weights));
    TRY(weights_gguf(l->weights) ? tokenizer_open_gguf(weights_gguf(l->weights), &l->tokenizer)
                                 : tokenizer_open_dir(path, &l->tokenizer));
    TRY(model_open(l->weights, DT_F32, &l->model));
    if (tokenizer_vocab_size(l->tokenizer) > l->model.config.vocab)
        return st_raise(ST_INPUT, path,
                        "the tokenizer has %d ids, the model only %lld rows; the two do not belong together",
                        (int)tokenizer_vocab_size(l->tokenizer), (long long)l->model.config.vocab);
    return ST_OK;
}

static status_t attach(loaded_t *l, bool with_grad) {
    l->hook = l->method->hook(l->method_self);
    l->n_hook = 1;
    TRY(param_set_alloc(&l->model.params, with_grad));
    return model_load(&l->model, l->weights);
}

static status_t open_adapter(const char *path, loaded_t *l) {
    adapter_t *a = NULL;
    TRY(adapter_open(path, &a));
    status_t st = ST_OK;
    const char *type = json_string_value(json_object_get(adapter_config(a), "peft_type"));
    l->method = method_find_peft(type);
    if (!l->method) TRY_GOTO(st_raise(ST_INPUT, path, "peft_type '%s' is not supported; LORA is", type), done);
    TRY_GOTO(l->method->open_adapter(a, &l->model, &l->method_self), done);
    TRY_GOTO(attach(l, false), done);
    TRY_GOTO(adapter_load(a, &l->model), done);
    if (adapter_base(a) && adapter_base(a) != l->model.fingerprint)
        fprintf(stderr, "graft: warning: %s: was trained on other base weights than %s\n", path, l->model.path);
done:
    adapter_close(a);
    return st;
}

status_t loaded_open(const char *path, const char *adapter, loaded_t *l) {
    TRY(open_base(path, l));
    if (adapter) return open_adapter(adapter, l);
    TRY(param_set_alloc(&l->model.params, false));
    return model_load(&l->model, l->weights);
}

status_t loaded_open_method(const char *path, const method_t *method, const void *cfg, uint64_t seed, loaded_t *l) {
    TRY(open_base(path, l));
    l->method = method;
    TRY(method->open(cfg, &l->model, &l->method_self));
    TRY(attach(l, true));
    const char *from = method->init_from ? method->init_from(cfg) : NULL;
    if (!from) {
        method->init(l->method_self, &l->model, seed);
        return ST_OK;
    }
    adapter_t *a = NULL;
    TRY(adapter_open(from, &a));
    status_t st = adapter_load(a, &l->model);
    adapter_close(a);
    return st;
}

void loaded_close(loaded_t *l) {
    if (l->method) l->method->close(l->method_self);
    model_close(&l->model);
    tokenizer_close(l->tokenizer);
    weights_close(l->weights);
    memset(l, 0, sizeof *l);
}
