/* Which modules a method targets, with PEFT's rules (formats.md 6.3): a list matches by full name or by ".suffix", a
 * string by regular expression over the full name, `all-linear` takes every linear but the output head. *local* */
#pragma once
#include <stdbool.h>
#include "kernels/status.h"
#include "train/config/field.h"
#include "train/models/model.h"

/* hit[n_site] is set for the targeted sites. No pattern: the family's default. ST_USAGE when nothing matches or an
 * item of a list matches no module, naming it. */
status_t target_sites(const cfg_patterns_t *patterns, const model_t *m, bool *hit);
