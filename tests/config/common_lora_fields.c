#include "common_lora_fields.h"
#include <string.h>

#define ROW(name, type, standard, min, max, flags)                                                                     \
    { #name, type, offsetof(sample_lora_t, name), standard, min, max, NULL, NULL, NULL, flags }

static const cfg_field_t fields[] = {
    ROW(r, CFG_INT, "8", 1, 4096, 0),
    ROW(lora_alpha, CFG_REAL, "8", 0, 1e15, CFG_ABOVE),
    ROW(lora_dropout, CFG_REAL, "0.0", 0, 1, CFG_BELOW),
    ROW(target_modules, CFG_PATTERNS, NULL, 0, 0, 0),
    ROW(use_rslora, CFG_BOOL, "false", 0, 0, 0),
    ROW(init_from, CFG_PATH, NULL, 0, 0, 0),
    {"init", CFG_STRING, offsetof(sample_lora_t, init), "RANDOM", 0, 0, "RANDOM|TEXT", NULL, "init_from", CFG_NOCASE},
    ROW(words, CFG_STRINGS, NULL, 0, 0, 0),
    ROW(prompts, CFG_FIELDS, NULL, 0, 0, 0),
    {0}};

static const method_fields_t lora = {"lora", fields, sizeof(sample_lora_t)};

static const method_fields_t *find(const char *type) {
    return strcmp(type, "lora") ? NULL : &lora;
}

static const char *type(int i) {
    return i ? NULL : lora.type;
}

const config_methods_t sample_methods = {.find = find, .type = type};
