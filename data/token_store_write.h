/* Writing a token store (data/token_store.h) whose size is known in advance, document by document, in order.
 *
 * The file appears under its name only when it is complete, read back and on disk (data/publish.h). Its bytes are a
 * function of what is given here alone. *local* */
#pragma once
#include <stddef.h>
#include "data/token_store.h"

typedef struct token_store_writer token_store_writer_t;

/* `info` is copied. ST_USAGE: no documents, or a tokenizer path or field name of 4096 bytes or more. ST_IO, ST_NOSPACE:
 * the file cannot be created. */
status_t token_store_create(const char *path, const token_store_info_t *info, token_store_writer_t **out);
/* The next document: ids in range of info.token_bytes, `json` an object. ST_INTERNAL when it exceeds what was
 * announced. */
status_t token_store_append(token_store_writer_t *w, const int32_t *ids, int64_t n, const char *json, size_t bytes);
/* Completes, reads back and publishes. Ends the writer, also on failure; then no file is left. */
status_t token_store_finish(token_store_writer_t *w);
/* Ends the writer without a file. NULL is fine. Keeps the error chain. */
void token_store_abort(token_store_writer_t *w);
