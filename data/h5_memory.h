/* HDF5 files that are made in memory, so that the library never writes to a disk: on an I/O error HDF5 1.10 may crash,
 * and what it would have written is ours to check, write and sync. *local*, not thread-safe. */
#pragma once
#include <hdf5.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct h5_memory {
    char *bytes; /* what HDF5 wrote; owned by the caller when the file is closed */
    size_t size; /* of it; storage of datasets that was never written is not part of it */
    bool closed;
} h5_memory_t;

/* File access that builds a new file in `m`, which must live until the file is closed, and grows by `increment` bytes.
 * Closing the file closes whatever an error path left open in it. -1 on failure; else the caller closes it. */
hid_t h5_memory_writer(h5_memory_t *m, size_t increment);
/* Bytes of the whole file as its superblock says; 0 when HDF5 did not finish it. After closing the file. */
uint64_t h5_memory_end(const h5_memory_t *m);
