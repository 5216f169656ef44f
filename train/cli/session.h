/* What the commands that run a model on one machine share: ranks, threads, the loaded model. */
#pragma once
#include "data/tokenizer.h"
#include "train/comm/comm.h"
#include "train/run/loaded.h"

/* Opens what --device (NULL: auto) and --dtype (NULL: float32) say and gives the model its copy there. comm: the ranks
 * that all do so, NULL: this process alone. Close `where` after the model. *local* */
status_t session_place(const char *device, const char *dtype, const comm_t *comm, loaded_t *l, compute_t *where);
/* Refuses a --dtype that is not known, before anything is read. *local* */
status_t session_check(const char *dtype);
/* The tokenizer of a model directory or GGUF file. ST_INPUT. *local* */
status_t session_tokenizer(const char *model, tokenizer_t **out);
/* Runs `body` under the ranks of a launcher, with the threads of this rank, and ends alike on all of them: one rank
 * prints. *collective* */
status_t session_run(status_t (*body)(comm_t *comm, int argc, char **argv), int argc, char **argv);
