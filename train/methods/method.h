/* A method: what is trained on the base. One file with one table, and one row in registry.c.
 *
 * A method declares its trainable tensors under the names PEFT gives them, so that loading, saving and resuming are
 * generic; it acts on the model through hooks (train/models/build.h). All functions are *local*. */
#pragma once
#include <jansson.h>
#include "kernels/status.h"
#include "train/config/config.h"
#include "train/methods/adapter.h"
#include "train/models/build.h"

typedef struct method {
    method_fields_t section; /* its name in a configuration (lower case) and the keys besides `type` */
    const char *peft_type;   /* in adapter_config.json */
    const char *doc;
    /* Declares the trainable tensors on the model, before param_set_alloc. cfg is the bound section. ST_USAGE when the
     * configuration does not fit the model. */
    status_t (*open)(const void *cfg, model_t *m, void **self);
    /* The same for a finished adapter: its tensors and config decide. ST_INPUT when it cannot be represented. */
    status_t (*open_adapter)(const adapter_t *a, model_t *m, void **self);
    void (*close)(void *self);
    /* Initial values from (seed, tensor name). */
    void (*init)(void *self, model_t *m, uint64_t seed);
    hook_t (*hook)(void *self);
    /* Path of weights to start from, NULL for none. */
    const char *(*init_from)(const void *cfg);
    /* PEFT's adapter_config.json, complete. */
    status_t (*peft_config)(const void *self, const model_t *m, json_t **out);
    /* Adds the method's change to the base weight w [out,in] of a site (float32 sums). NULL: cannot be merged. */
    status_t (*merge)(const void *self, const model_t *m, const site_t *site, float *w);
} method_t;

extern const method_t *const methods[]; /* registry.c, NULL-terminated */

const method_t *method_find(const char *name);
const method_t *method_find_peft(const char *peft_type);
