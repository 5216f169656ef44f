/* Which word of a list an example names in one of its JSON string fields: the labels that choose virtual tokens, and
 * the route of an example. Messages name the fault alone, without the place of the line. All errors are ST_INPUT.
 * *local*, thread-safe */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include "data/virtual.h"

/* The index of the field's value among n words; -1 when the field is missing or null, or its value unknown. An error
 * when it is of another type than a string. */
status_t label_find(const json_t *line, const char *name, const char *const *word, int n, int32_t *index);
/* Raises the error for a field in which label_find found no word: what stands there and what could. */
status_t label_refuse(const json_t *line, const char *name, const char *const *word, int n);
/* Fills label[0 .. v->n_field). Where label_find finds none: standard[i] if that is a label (`standard` may be NULL),
 * else -1 if the field is optional, else an error. */
status_t label_read(const json_t *line, const virtual_layout_t *v, const int32_t *standard, int32_t *label);
