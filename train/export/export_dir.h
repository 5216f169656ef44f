/* The directory of an export and the files in it. *local* */
#pragma once
#include <jansson.h>
#include "train/export/export.h"

/* What README.md says besides what it is. */
typedef struct export_text {
    const char *notes, *engines; /* notes may be NULL */
} export_text_t;

/* Makes DIR or takes over an earlier export of the format, whose configuration file it removes first. Writes README.md.
 * ST_USAGE when something else is there. */
status_t export_dir_begin(const export_format_t *f, const char *dir, const export_text_t *text);
/* DIR/NAME as JSON: indent 2, sorted keys, a newline at the end. */
status_t export_dir_json(const char *dir, const char *name, const json_t *value);
/* Copies FROM/NAME to DIR/NAME when it is there. */
status_t export_dir_copy(const char *from, const char *dir, const char *name);
