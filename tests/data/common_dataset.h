/* A data set from a text in a scratch directory, opened, scanned and finished by one rank. */
#pragma once
#include "data/dataset.h"

/* One file a text, DIR/a.jsonl, DIR/b.jsonl ...; o.sources is not read. */
status_t text_dataset(const char *dir, const char *const *text, int n, dataset_options_t o, dataset_t **out);
