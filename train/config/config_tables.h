/* The tables of keys behind config_t, shared by the files of this directory only. */
#pragma once
#include "train/config/config.h"

extern const cfg_field_t config_top_fields[];
extern const cfg_field_t config_method_fields[]; /* of any method, beside its type and its own */
extern const cfg_field_t config_model_fields[];
extern const cfg_field_t config_data_fields[];
extern const cfg_field_t config_conditioning_fields[];
extern const cfg_field_t config_training_fields[];

/* The sections of a file that are plain structs, in the order in which they are written. */
typedef struct config_section {
    const char *name;
    const cfg_field_t *fields;
    size_t offset; /* in config_t */
    bool required;
    bool staged; /* may differ between stages */
} config_section_t;

/* config_stages.c: whether the key of a staged section may differ between stages. */
bool config_stage_takes(const char *section, const char *key);
/* The keys of an entry of `stages`. */
#define CONFIG_STAGE_KEYS "share|data|conditioning|objective"

enum { CONFIG_SECTION_COUNT = 4 };
extern const config_section_t config_sections[CONFIG_SECTION_COUNT];

/* The rules of the section `model`, after it was bound: finds the file of `config`. */
status_t config_model_resolve(const cfg_source_file_t *src, const cfg_node_t *root, config_model_t *model);
