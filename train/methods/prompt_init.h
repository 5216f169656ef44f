/* Initial rows of prompts from the base's own token embeddings (Lester et al. 2021, 3.1), for a table [n p, D] of n
 * prompts with p rows. Values are those of the model in memory. *local* */
#pragma once
#include "train/config/field.h"
#include "train/methods/method.h"

/* Every row is that of a token drawn from the whole vocabulary, with replacement (PEFT's SAMPLE_VOCAB). */
void prompt_init_sample(const model_t *m, const param_t *table, uint64_t seed);
/* Every prompt is the text's token embeddings with what the tokenizer puts in front, repeated or cut to p rows (PEFT's
 * TEXT). ST_USAGE when the text has no tokens. */
status_t prompt_init_text(const model_t *m, const param_t *table, int64_t p, const method_init_t *in, const char *text);
/* Row i of every prompt is the mean of the embeddings of label i's tokens, the rows behind the last label are drawn as
 * in prompt_init_sample. At most p labels. ST_USAGE when one has no tokens. */
status_t prompt_init_labels(const model_t *m, const param_t *table, int64_t p, const method_init_t *in,
                            const cfg_strings_t *labels);
