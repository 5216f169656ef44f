/* One line of a JSONL file as a JSON object, and its fields. The messages name the fault alone: who knows the
 * line puts its place in front. All errors are ST_INPUT. *local* */
#pragma once
#include <jansson.h>
#include <stdbool.h>
#include "kernels/status.h"

/* *out is an object; the caller drops it with json_decref. */
status_t json_line_parse(const char *json, size_t n, json_t **out);
/* The string under `key`, which lives as long as the object and may hold NUL; an optional one that is missing or null
 * is empty. */
status_t json_line_string(const json_t *object, const char *key, bool optional, const char **text, size_t *n);
/* The number under `key`, which must be there. */
status_t json_line_number(const json_t *object, const char *key, double *out);
/* "a string", "an array" ... for messages. */
const char *json_line_type(const json_t *v);
