/* Maximum likelihood: the weighted mean of -log p_t, with the weights of the data. The default. */
#include "train/objectives/objective.h"

static const cfg_field_t fields[] = {{.name = NULL}};

const objective_t objective_mle = {.section = {"mle", fields, 1}}; /* its section has no keys */
