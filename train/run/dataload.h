/* Opening a data set on all ranks: each tokenises its share to learn lengths, then all know all lengths. */
#pragma once
#include "data/dataset.h"
#include "train/comm/comm.h"
#include "train/config/config.h"

/* *collective*. `sources` overrides the configuration's training files (evaluation: one source). The layout, which must
 * outlive the data set, says what goes into every sequence. All ranks return the same status. */
status_t dataload_open(comm_t *comm, const config_data_t *cfg, const virtual_layout_t *layout,
                       const dataset_source_t *sources, int n_sources, encoder_t encoder, dataset_t **out);
