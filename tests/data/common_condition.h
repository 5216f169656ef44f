/* Small templates and data sets of a byte a token, for the tests of conditions. All functions assert. */
#pragma once
#include "data/condition.h"
#include "data/dataset.h"

static const condition_slot_t document = {.kind = SLOT_DOCUMENT, .text = "{text}", .loss = true};
static const condition_slot_t url = {.kind = SLOT_METADATA, .text = "<{u}>"};
static const condition_slot_t end = {.kind = SLOT_SUFFIX, .text = "[{n}]", .loss = true};

extern char *condition_dir; /* scratch directory between condition_setup and condition_teardown */
int condition_setup(void **state);
int condition_teardown(void **state);
void condition_ok(status_t st);
condition_t *condition_template(const condition_slot_t *slots, int n, uint64_t seed);
dataset_options_t condition_options(const condition_t *c, bool bos);
dataset_t *condition_dataset(const char *text, dataset_options_t o);
/* Sequence i: ids as text, '^' BOS and '.' EOS, with a digit for each weight: "^<a>bc." and "0000111". */
void expect_sequence_at(const dataset_t *d, int64_t i, int64_t place, const char *want, const char *weights);
/* Without dropout, and the numbers of tokens that the data set tells beforehand. */
void expect_sequence(const dataset_t *d, int64_t i, const char *want, const char *weights);
