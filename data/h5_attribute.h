/* Attributes of HDF5 files that others may have written: read when they have exactly the expected type. `advice` ends
 * the message of every failure ("the file was not written by ..."). ST_INPUT. *local*, not thread-safe. */
#pragma once
#include <hdf5.h>
#include <stddef.h>
#include "kernels/status.h"

/* One value of this type. */
status_t h5_attribute_read(hid_t at, const char *name, hid_t type, const char *advice, void *v);
/* A fixed-length text of at most `most` bytes; the caller frees it. */
status_t h5_attribute_text(hid_t at, const char *name, size_t most, const char *advice, char **text);
/* Bytes of a fixed-length string type with its NUL, 0 when it is something else or longer than `most`. */
size_t h5_text_bytes(hid_t type, size_t most);
