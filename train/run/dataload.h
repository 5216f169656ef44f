/* Opening a data set on all ranks: each tokenises its share to learn lengths, then all know all lengths. */
#pragma once
#include "data/dataset.h"
#include "train/comm/comm.h"
#include "train/config/config.h"

/* *collective*. `sources` overrides the configuration's training files (evaluation: one source). The layout says
 * what goes into every sequence, `label` (NULL: none) which labels examples have that name none; the data set borrows
 * these and what the configuration owns. All ranks return the same status. */
status_t dataload_open(comm_t *comm, const config_data_t *cfg, const virtual_layout_t *layout, const int32_t *label,
                       const dataset_source_t *sources, int n_sources, encoder_t encoder, dataset_t **out);
