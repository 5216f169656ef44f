/* The configuration of a run: one YAML file plus `key=value` from the command line, checked key by key.
 *
 * config_load() either fills a config_t in which every value is present, in range and consistent, or raises the first
 * mistake: `run.yaml:12: unknown key 'lora_aplha' in method (did you mean 'lora_alpha'?)`, `command line: ...` for
 * overrides (ST_USAGE), ST_INPUT when the file cannot be read. The pool inside owns every string, array and method
 * struct; config_release() frees them. A config_t is read only after loading.
 *
 * Numbers that were not given and have no default are 0: exactly one of max_steps and num_train_epochs, and of
 * global_batch_size and global_batch_tokens, is above 0; at most one of warmup_steps and warmup_ratio is.
 *
 * All functions are *local*; ranks that read the same file and command line get the same result. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"
#include "train/config/field.h"

/* Values of CFG_CHOICE members, in the order of the tables in config_tables.c. */
enum { CONFIG_DTYPE_FLOAT32, CONFIG_DTYPE_BFLOAT16 };
enum { CONFIG_SCHEDULE_CONSTANT, CONFIG_SCHEDULE_LINEAR, CONFIG_SCHEDULE_COSINE, CONFIG_SCHEDULE_WSD };
enum { CONFIG_OPTIM_ADAMW };
enum { CONFIG_REDUCTION_CANONICAL, CONFIG_REDUCTION_FAST };
enum { CONFIG_SHARDING_NONE, CONFIG_SHARDING_ZERO1 };

/* Either a model with its weights, or one made anew. */
typedef struct config_model {
    const char *path;      /* NULL: made from `config` */
    const char *config;    /* file with the keys of a config.json, found and absolute (train/config/model_file.h) */
    const char *tokenizer; /* Hugging Face directory or GGUF file; with `config` */
    int dtype;             /* CONFIG_DTYPE_* */
} config_model_t;

/* One training method. Its file owns the struct behind `cfg` and the rows that describe it. */
typedef struct config_method {
    const char *type;
    const cfg_field_t *fields;
    const void *cfg;      /* the method's own struct, method_fields_t.size bytes */
    int line;             /* where it stands in the file */
    double learning_rate; /* 0: training.learning_rate */
} config_method_t;

/* What is minimised. Its file owns the struct behind `cfg` and the rows that describe it. */
typedef struct config_objective {
    const char *type;
    const cfg_field_t *fields;
    const void *cfg;
} config_objective_t;

typedef struct config_data {
    cfg_sources_t train;
    const char *eval;  /* NULL: no evaluation */
    int format;        /* data_format_t */
    int chat_template; /* chat_template_t */
    int64_t max_seq_length;
    int packing;    /* packing_t */
    int truncation; /* truncation_t */
    bool train_on_inputs;
    bool append_eos;
    bool shuffle;
    /* Only the examples whose field `route_field` says `route`, one of `routes`. All three are given or none. */
    const char *route_field, *route;
    cfg_strings_t routes;
    threshold_t filter; /* only the training examples within it; field NULL: all */
} config_data_t;

/* What stands around documents (data/condition.h), and the tokens made for it. */
typedef struct config_conditioning {
    cfg_strings_t special_tokens; /* tokens that the tokenizer learns */
    bool train_special_tokens;
    cfg_template_t template; /* none: documents stand alone */
} config_conditioning_t;

typedef struct config_training {
    int64_t global_batch_size;   /* sequences of one step over all ranks */
    int64_t global_batch_tokens; /* or tokens */
    int64_t micro_batch_tokens;  /* >= data.max_seq_length */
    int64_t max_steps;
    double num_train_epochs;
    double learning_rate;
    int lr_scheduler_type; /* CONFIG_SCHEDULE_* */
    double warmup_ratio;
    int64_t warmup_steps;
    double min_lr_ratio;
    double wsd_decay_ratio; /* share of all steps in which wsd decays */
    int optim;              /* CONFIG_OPTIM_* */
    double adam_beta1, adam_beta2, adam_epsilon;
    double weight_decay;
    double max_grad_norm; /* 0: no clipping */
    bool gradient_checkpointing;
    bool cuda_graph;        /* passes on a device are recorded */
    int reduction;          /* CONFIG_REDUCTION_* */
    int optimizer_sharding; /* CONFIG_SHARDING_* */
    int64_t seed;
} config_training_t;

typedef struct config {
    config_model_t model;
    const config_method_t *method; /* [method_count] of different types */
    int method_count;
    config_objective_t objective; /* the registry's first when the file has none */
    config_data_t data;
    config_conditioning_t conditioning;
    config_training_t training;
    const char *output_dir;
    int64_t logging_steps;
    int64_t eval_steps;                 /* 0: at the end only */
    int64_t save_steps;                 /* 0: at the end only */
    int64_t save_total_limit;           /* 0: keep all */
    const char *resume_from_checkpoint; /* "auto", "never" or a path */
    const char *device;                 /* "auto", "cpu", "cuda" or "cuda:N" (train/run/compute.h) */
    bool share_device;                  /* ranks of a node may use one GPU together */
    /* With the key `stages`: the run in order, each stage with what is the whole run's and its own keys in place; of a
     * stage only share, data, conditioning and objective are meant. */
    const struct config *stage; /* [stage_count] */
    int stage_count;
    double share; /* of a stage: its part of all steps */
    /* With the section `adapters`, each of them as a run of its own, and nothing above is filled; see config_runs. */
    const struct config *adapter; /* [adapter_count] */
    int adapter_count;
    const char *name; /* of such an adapter, else NULL */
    cfg_pool_t pool;  /* empty in an adapter, whose memory is the whole's */
} config_t;

/* What a method tells the configuration about itself. */
typedef struct method_fields {
    const char *type;          /* the value of the key `type` */
    const cfg_field_t *fields; /* its own keys */
    size_t size;               /* of its struct */
} method_fields_t;

/* The registries of methods and of objectives as the configuration sees them. */
typedef struct config_methods {
    const method_fields_t *(*find)(const char *type); /* NULL for an unknown type */
    const char *(*type)(int i);                       /* the i-th of all, from 0; NULL behind the last */
    const method_fields_t *(*objective)(int i);       /* likewise; the first needs no key. NULL: there are none */
} config_methods_t;

/* Reads the file `path`, applies `overrides` ("training.max_steps=5") in order and checks the whole. */
status_t config_load(const char *path, const char *const *overrides, int count, const config_methods_t *methods,
                     config_t *out);

/* The same for text in memory, such as the configuration stored in a checkpoint; `name` stands for the file in
 * messages, and relative paths are relative to the directory in it. */
status_t config_parse(const char *name, const char *text, size_t len, const char *const *overrides, int count,
                      const config_methods_t *methods, config_t *out);

/* Appends the resolved configuration of one run as YAML with every default written out. Reading it back gives the same
 * values; paths are written absolute, what was not given is `null`. */
status_t config_dump(const config_t *config, strbuf_t *out);

/* Appends one line "training.learning_rate: 0.0002 -> 0.0001\n" for every key in which `now` means another run than
 * `before`, so that a run must not be continued with it; nothing is appended when it may.
 * Free to change are: where and how often things are written (output_dir, *_steps, save_total_limit,
 * resume_from_checkpoint, data.eval), how long the run is (max_steps, num_train_epochs: a decaying schedule is then
 * stretched from the present step on), and how a step is executed, which changes rounding at most
 * (micro_batch_tokens, gradient_checkpointing, cuda_graph, reduction, optimizer_sharding). */
status_t config_diff(const config_t *before, const config_t *now, strbuf_t *out);

/* The runs that a configuration stands for: itself, or its adapters. */
const config_t *config_runs(const config_t *config, int *count);

void config_release(config_t *config);
