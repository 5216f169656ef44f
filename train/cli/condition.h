/* `--condition field=value`: labels of virtual tokens, for lines that name none and for exports. *local* */
#pragma once
#include <stdint.h>
#include "data/virtual.h"
#include "train/cli/options.h"

/* Fills label[0 .. layout->n_field), -1 where no option names the field. ST_USAGE, with a list of what is known, for
 * another field or value, and when a field is given twice. */
status_t condition_labels(const option_list_t *conditions, const virtual_layout_t *layout, int32_t *label);
