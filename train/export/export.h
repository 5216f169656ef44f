/* Exports: a trained method written as files that other programs load. One format is one file and one row in
 * registry.c. A format refuses, with the reason, what it cannot represent, and says which engines load the result.
 *
 * Every export is a directory of its own. Its README.md is written first and its configuration file last, each file by
 * temporary name, so that a directory without a configuration is an unfinished one. All functions are *local*. */
#pragma once
#include <stdio.h>
#include "data/tokenizer.h"
#include "data/weights.h"
#include "kernels/status.h"
#include "train/methods/method.h"

/* Borrowed. The weights of the model are those of the base; a format may change them in place, so that a source serves
 * for one export. */
typedef struct export_source {
    const weights_t *weights;  /* NULL: the base was made anew */
    const json_t *config;      /* the base's config.json, NULL: the base is a GGUF */
    const char *tokenizer_dir; /* where the tokenizer's files are, NULL: it came from a GGUF */
    const tokenizer_t *tokenizer;
    const char *const *special; /* [n_special] tokens that the run added to the tokenizer */
    int n_special;
    model_t *model; /* float32 */
    const method_t *method;
    void *method_self;
    int first_param, last_param; /* the method's parameters */
    method_choice_t choice;      /* which of the things that it learned */
} export_source_t;

/* The method's result: what its own `result` makes, else its description and its tensors as they are. Release with
 * export_result_release. */
status_t export_result(const export_source_t *s, method_result_t *out);
void export_result_release(method_result_t *r);

typedef struct export_format {
    const char *name, *doc;
    const char *const *files; /* all it ever writes besides README.md; NULL-terminated, the configuration file first */
    status_t (*check)(const export_source_t *s); /* what cannot be represented, before anything is written; or NULL */
    status_t (*write)(export_source_t *s, const char *dir);
    /* For README.md: what has to be known to use the files; or NULL. */
    status_t (*notes)(const export_source_t *s, FILE *out);
    /* One line per engine: whether it loads what is written. */
    status_t (*engines)(const export_source_t *s, FILE *out);
} export_format_t;

extern const export_format_t *const export_formats[]; /* registry.c, NULL-terminated */

/* ST_USAGE, with a list of what exists, for an unknown name. */
status_t export_format_find(const char *name, const export_format_t **out);

/* ST_USAGE when the run added tokens, whose rows in the vocabulary are no part of an adapter; `where` names the format.
 */
status_t export_refuse_added(const export_source_t *s, const char *where);

/* The whole export: checks and makes DIR, writes, and prints the engines on `report`; README.md has them, too. ST_USAGE
 * when DIR exists and is neither empty nor an earlier export of the same format. */
status_t export_run(const export_format_t *f, export_source_t *s, const char *dir, FILE *report);
