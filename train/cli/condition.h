/* What stands in front of every prompt by request. `--condition field=value` gives the labels of virtual tokens that
 * lines do not name, and the fields of a template of conditional pretraining (data/condition.h); the template is that
 * of `--template CONFIG`, else of the first adapter or run that has one. *local* */
#pragma once
#include <jansson.h>
#include <stdint.h>
#include "data/condition.h"
#include "data/virtual.h"
#include "train/cli/options.h"
#include "train/config/config.h"
#include "train/run/loaded.h"

/* Fills label[0 .. layout->n_field), -1 where no option names the field. ST_USAGE, with a list of what is known, for
 * another field or value, and when a field is given twice. */
status_t condition_labels(const option_list_t *conditions, const virtual_layout_t *layout, int32_t *label);

typedef struct conditions {
    option_list_t given;  /* --condition */
    const char *template; /* --template */
    bool from_data;       /* --condition-from-data: the fields of the documents themselves */
    int32_t label[VIRTUAL_MAX_FIELDS];
    condition_t *condition;    /* NULL: nothing stands in front */
    condition_tokens_t tokens; /* of the given fields */
    json_t *fields;
} conditions_t;

/* Rows of a table of options. */
#define CONDITION_ROWS(c)                                                                                              \
    {"--condition", OPTION_LIST, &(c)->given, 0, 0}, {                                                                 \
        "--template", OPTION_STRING, &(c)->template, 0, 0                                                              \
    }

/* Finds the template for `model` and its adapters and renders it. Of no options nothing comes: documents and prompts
 * stand alone. ST_USAGE, with a list of the fields, for one that nobody knows. Release it also after a failure. */
status_t conditions_open(conditions_t *c, const char *model, const option_list_t *adapter, const loaded_t *l);
void conditions_release(conditions_t *c);
