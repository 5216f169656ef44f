/* Tokenizer files that know the tokens which a run added, as transformers would write them. *local* */
#pragma once
#include "train/export/export.h"

/* Writes DIR/NAME, one of the base's tokenizer files, with the added tokens in it; as it is when it has no place for
 * them or there are none. Nothing when the base has no such file. ST_INPUT when it cannot be read. */
status_t added_tokens_file(const export_source_t *s, const char *dir, const char *name);
