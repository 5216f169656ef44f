/* Exact match: how many greedy continuations of the prompts of a data set are the completions that it has. White space
 * at the ends of both texts does not count. */
#pragma once
#include "data/dataset.h"
#include "train/comm/comm.h"
#include "train/run/loaded.h"

/* Several prompts for one example, one for each label of a field, as one answer (Lester et al. 2021, section 6; the
 * majority of the answers, or the mean of the logits at every step). */
typedef enum match_kind { MATCH_EACH, MATCH_MEAN, MATCH_VOTE, MATCH_KINDS } match_kind_t;

enum { MATCH_MOST_LABELS = 256 };

typedef struct match_options {
    match_kind_t kind;
    int field;       /* of the layout, whose labels make the ensemble; of no meaning with MATCH_EACH */
    bool append_eos; /* completions of the data end with EOS */
} match_options_t;

typedef struct match_result {
    double right, asked;
} match_result_t;

/* The share of this rank: every size-th example; the caller adds up. Of equally many votes the answer of the lowest
 * label wins. *local* */
status_t match_run(loaded_t *l, const dataset_t *d, const comm_t *comm, const match_options_t *o, match_result_t *out);
