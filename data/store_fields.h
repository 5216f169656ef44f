/* The field table of a token store: {"url": {"string": 12, "null": 1}, ...}, how many documents have a field of which
 * type. A table is a jansson object, counts are sums, so the order of counting and merging does not matter. *local* */
#pragma once
#include <jansson.h>
#include "kernels/buf.h"
#include "kernels/status.h"

/* Counts the fields of one document. */
status_t store_fields_count(json_t *table, const json_t *document);
/* Adds the counts of `from`, a table or what claims to be one (ST_INPUT). ST_INPUT as well: more than 4096 fields. */
status_t store_fields_merge(json_t *table, const json_t *from);
/* Appends compact JSON with sorted keys: the same text for the same value. */
status_t store_json_text(const json_t *value, strbuf_t *out);
