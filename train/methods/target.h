/* Which modules a method targets, with PEFT's rules (formats.md 6.3): a list matches by full name or by ".suffix", a
 * string by regular expression over the full name, `all-linear` takes every linear but the output head. *local* */
#pragma once
#include <stdbool.h>
#include "kernels/status.h"
#include "train/config/field.h"
#include "train/models/model.h"

/* Names to choose from. */
typedef struct target_names {
    const char *key;         /* of the configuration, for messages */
    const char *noun;        /* what one of them is: "linear" */
    const char *const *name; /* [n] */
    int64_t n;
} target_names_t;

/* The rule itself: hit[n] is set for the names that the given pattern, or any item of it, matches. ST_USAGE when it, or
 * one item, matches nothing, naming it and what is nearest. */
status_t target_match(const cfg_patterns_t *patterns, const target_names_t *names, bool *hit);
/* hit[n_site] is set for the targeted sites. No pattern: the family's default. Errors as target_match. */
status_t target_sites(const cfg_patterns_t *patterns, const model_t *m, bool *hit);
