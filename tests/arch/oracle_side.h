/* A tiny model as the oracle wants it: doubles, Hugging Face names and layouts. Asserts that all goes well. *local* */
#pragma once
#include "tests/common/tiny_model.h"
#include "tests/oracle/oracle.h"

/* What the oracle must be told about a config.json. */
typedef struct oracle_case {
    const char *config;
    bool gpt2, tied, attention_bias, mlp_bias;
    oracle_rope_t rope;
} oracle_case_t;

/* Every parameter of the model; a caller may append more tensors. */
typedef struct oracle_side {
    oracle_tensor_t *tensor; /* [n], room for `cap` */
    int64_t n, cap;
    double *grad; /* places as in the trainable blob, matrices as in the file */
} oracle_side_t;

/* more: room for so many tensors beside the model's. */
void oracle_side_open(oracle_side_t *o, const tiny_t *t, double lora_scale, int64_t more);
void oracle_side_close(oracle_side_t *o); /* frees the values of all tensors */
/* The loss; adds to gradients. Prefix rows and slot rows of the batch are tensors that the caller appended. */
double oracle_side_run(const oracle_side_t *o, const oracle_case_t *c, const model_config_t *mc, const batch_t *b);
/* A parameter's numbers as doubles in the file's layout, in which some matrices are turned. The caller frees. */
double *oracle_side_file(const model_t *m, int index, const void *data, dtype_t real);
