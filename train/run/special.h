/* Tokens that a run adds to its base (conditioning.special_tokens): the tokenizer learns their texts, the model has
 * rows for those that it did not know. A checkpoint names them in its configuration and holds their trained rows under
 * names of their own. *local* */
#pragma once
#include "data/tokenizer.h"
#include "train/config/config.h"
#include "train/methods/adapter.h"
#include "train/models/model.h"

typedef struct special {
    char **text; /* [n] as they were listed; zero is valid and empty */
    int n;
    const char **added; /* [model.n_new] those that are new to the base, by id */
    uint64_t seed;      /* of their initial rows */
} special_t;

/* The list of a configuration, copied. */
status_t special_of_config(const config_t *c, special_t *out);
/* The list of a finished adapter: of its configuration, empty when it has none. */
status_t special_of_adapter(const adapter_t *a, special_t *out);
void special_release(special_t *s);
/* Teaches the tokenizer and makes room in the model, which has been opened and not yet allocated. */
status_t special_open(special_t *s, tokenizer_t *t, model_t *m);
/* Takes from an adapter the rows of all added tokens that it has by the same text. ST_INPUT when its tensors do not fit
 * its own list. */
status_t special_take(const special_t *s, const tokenizer_t *t, model_t *m, const adapter_t *a);
