/* Inside train/checkpoint only. A checkpoint file is one HDF5 file followed by a footer of FOOTER_BYTES, which HDF5
 * readers ignore (it lies beyond their end-of-file address):
 *     8 bytes magic, u64 bytes before the footer, u64 XXH64 (seed 0) of those bytes, little-endian.
 * The footer is checked before HDF5 sees a single byte: HDF5 1.10 must not be trusted with damaged files. HDF5 itself
 * never writes to disk: the file is built in memory and written by us, so every I/O error is an errno of our own call.
 */
#pragma once
#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>
#include "kernels/status.h"
#include "train/checkpoint/checkpoint.h"

#define FOOTER_MAGIC       "GRAFTCK1"
#define CHECKPOINT_FORMAT  "graft-checkpoint"
#define CHECKPOINT_HISTORY "step,loss,grad_norm,learning_rate"
enum { FOOTER_BYTES = 24, CHECKPOINT_VERSION = 1, CHECKPOINT_STATES = 2, CHECKPOINT_RANK = 3 };

extern const char *const checkpoint_state_name[CHECKPOINT_STATES]; /* groups under /optimizer */

struct checkpoint {
    checkpoint_meta_t meta; /* its strings and history belong to this struct */
    char *graft_version;
    checkpoint_tensor_t *tensor; /* [count], name, data and states owned */
    uint64_t *checksum;          /* [count] XXH64 of data */
    int64_t count;
    int64_t file_bytes;
};

/* The whole file with its footer, in memory; the caller frees *image. */
status_t checkpoint_image(const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n, char **image,
                          size_t *size);

/* rename(from, to) and a sync of the directory that holds them. */
status_t checkpoint_rename(const char *from, const char *to);
/* Writes and syncs a new file, replacing what a dead writer may have left under this name. */
status_t checkpoint_put(const char *path, const char *bytes, size_t n);

/* Elements of a tensor; -1 when its rank or dimensions are no shape. */
int64_t checkpoint_elements(int rank, const int64_t *dim);

/* --- HDF5 in our terms (checkpoint_h5.c). Writers raise ST_IO, readers ST_INPUT, both with `name`. ------------- */
void h5_quiet(void); /* no messages of the library on stderr */
/* Access by the memory driver without a backing file. -1 on failure. */
hid_t h5_memory_access(void);
status_t h5_put_i64(hid_t at, const char *name, int64_t v);
status_t h5_put_u64(hid_t at, const char *name, uint64_t v);
status_t h5_put_text(hid_t at, const char *name, const char *text);
/* A dataset of the given shape with its XXH64 as attribute. type: in the file and in memory. */
status_t h5_put_data(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim, const void *data,
                     size_t bytes, const char *units);

status_t h5_get_i64(hid_t at, const char *name, int64_t *v);
status_t h5_get_u64(hid_t at, const char *name, uint64_t *v);
status_t h5_get_text(hid_t at, const char *name, char **text);
/* Reads a dataset, checks type, shape against storage, and checksum; *data is malloced. NULL dim: a text. */
status_t h5_get_data(hid_t group, const char *name, hid_t type, int *rank, int64_t dim[CHECKPOINT_RANK], void **data,
                     uint64_t *checksum);
