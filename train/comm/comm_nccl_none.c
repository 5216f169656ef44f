/* The data communicator for devices of a program built without CUDA: there are no devices. */
#include "train/comm/comm_data_impl.h"

status_t comm_nccl_open(comm_t *c, const comm_data_options_t *o, comm_data_t **out) {
    (void)c, (void)o, (void)out;
    return st_raise(ST_USAGE, "NCCL", "this program was built without CUDA; build it with `cmake --preset cuda`");
}
