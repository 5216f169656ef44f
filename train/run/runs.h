/* The runs of one configuration on one base: itself, or its `adapters`, stepped in turn.
 *
 * Each run is what it would be alone: its own data, stream, optimiser, directory and checkpoints; only the base's
 * files, tokenizer and frozen weights are held once. A run that ends earlier than the others is finished; after a kill
 * the runs may stand at different steps, and each continues from its own. */
#pragma once
#include "train/comm/comm.h"
#include "train/config/config.h"

/* *collective*; all ranks return alike. ST_STOPPED after a requested stop saved all runs. When one run fails, the
 * others are saved before its status is returned. */
status_t runs_train(const config_t *config, comm_t *comm);
