/* The set-up of a cmocka group whose tests work on a device: the first one, open for all of them. */
#pragma once
#include "kernels/cuda.h"

static device_t *device;

static int open_device(void **state) {
    (void)state;
    return cuda_open(0, &device) == ST_OK ? 0 : -1;
}

static int close_device(void **state) {
    (void)state;
    device_close(device);
    return 0;
}
