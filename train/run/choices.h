/* Which algorithms the devices of a run have chosen, for its checkpoints (kernels/device.h, device_choices). */
#pragma once
#include "kernels/device.h"
#include "train/comm/comm.h"

/* The choices of all ranks, whose micro-batches have other sizes, as one text on rank 0, "" without a device; NULL on
 * the others. The caller frees *text, also after a failure. *collective* */
status_t choices_gather(comm_t *c, device_t *d, char **text);
