/* Configurations of models that are made anew: files with the keys of Hugging Face's config.json, as JSON or YAML,
 * found by path or by name. *local* */
#pragma once
#include <jansson.h>
#include "kernels/buf.h"
#include "kernels/status.h"

/* The file that `text` means, as an absolute path appended to `out`: a file relative to `dir` (with a final slash, or
 * ""), else, for a name without a slash, NAME, NAME.yaml or NAME.json in the directory $GRAFT_CONFIGS names, then in
 * the one that Graft was built with. ST_USAGE, without a place, if there is none: says what is nearest. */
status_t model_file_find(const char *dir, const char *text, strbuf_t *out);

/* Its contents, an object owned by the caller: JSON when the name ends in .json, else YAML, whose unquoted scalars are
 * typed as in JSON. ST_INPUT names file and line. */
status_t model_file_read(const char *path, json_t **out);
