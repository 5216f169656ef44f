/* A method with every type of key a method uses, so that the configuration is tested without the methods' own tables.
 */
#pragma once
#include "train/config/config.h"

typedef struct sample_lora {
    int64_t r;
    double lora_alpha;
    double lora_dropout;
    cfg_patterns_t target_modules;
    bool use_rslora;
    const char *init_from;
    const char *init; /* excludes init_from */
    cfg_strings_t words;
    cfg_fields_t prompts;
} sample_lora_t;

extern const config_methods_t sample_methods;
