/* Inside train/checkpoint only. A checkpoint file is one HDF5 file followed by a footer of FOOTER_BYTES, which HDF5
 * readers ignore (it lies beyond their end-of-file address):
 *     8 bytes magic, u64 bytes before the footer, u64 XXH64 (seed 0) of those bytes, little-endian.
 * The footer is checked before HDF5 sees a single byte: HDF5 1.10 must not be trusted with damaged files. HDF5 itself
 * never writes to disk: it makes the file's head in memory, with a place for each tensor behind it, and we write head
 * and tensors, so every I/O error is an errno of our own call and no tensor is in memory twice. */
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
enum { CHECKPOINT_PARTS = 1 + CHECKPOINT_STATES }; /* datasets of a tensor: values and states */

extern const char *const checkpoint_state_name[CHECKPOINT_STATES]; /* groups under /optimizer */

struct checkpoint {
    checkpoint_meta_t meta; /* its strings and history belong to this struct */
    char *graft_version;
    checkpoint_tensor_t *tensor; /* [count], name, data and states owned */
    uint64_t *checksum;          /* [count, CHECKPOINT_PARTS] XXH64 of data and states; 0: has none */
    int64_t count;
    int64_t file_bytes;
    bool is_outline; /* without data and states */
};

typedef struct checkpoint_head {
    char *bytes;        /* [size] the file up to the first tensor */
    int64_t size, end;  /* end: where the footer goes */
    uint64_t *checksum; /* [n, CHECKPOINT_PARTS] XXH64 of what is there */
} checkpoint_head_t;

/* The head of a file in which the tensors' values and states lie one behind the other, in this order, up to its end.
 * Release it also after a failure. */
status_t checkpoint_head_make(const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n,
                              checkpoint_head_t *head);
void checkpoint_head_release(checkpoint_head_t *head);

/* What a file of `size` bytes says of itself, without what the tensors hold: their data and states are NULL. For a file
 * whose bytes are known to be right. */
status_t checkpoint_open_outline(const char *path, int64_t size, checkpoint_t **out);

/* rename(from, to) and a sync of the directory that holds them. */
status_t checkpoint_rename(const char *from, const char *to);
/* Writes and syncs a new file, replacing what a dead writer may have left under this name. */
status_t checkpoint_put(const char *path, const char *bytes, size_t n);

/* Elements of a tensor; -1 when its rank or dimensions are no shape. */
int64_t checkpoint_elements(int rank, const int64_t *dim);

/* --- HDF5 in our terms (checkpoint_h5.c). Writers raise ST_IO, readers ST_INPUT, both with `name`. ------------- */
void h5_quiet(void);             /* no messages of the library on stderr */
hid_t h5_open(const char *path); /* for reading; -1 on failure */
status_t h5_put_i64(hid_t at, const char *name, int64_t v);
status_t h5_put_u64(hid_t at, const char *name, uint64_t v);
status_t h5_put_text(hid_t at, const char *name, const char *text);
/* A dataset of the given shape with its XXH64 as attribute. type: in the file and in memory. */
status_t h5_put_data(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim, const void *data,
                     size_t bytes, const char *units);
/* Likewise, with a place in the file but without the data; *at: the place. */
status_t h5_place_data(hid_t group, const char *name, hid_t type, int rank, const int64_t *dim, uint64_t checksum,
                       const char *units, int64_t *at);

status_t h5_get_i64(hid_t at, const char *name, int64_t *v);
status_t h5_get_u64(hid_t at, const char *name, uint64_t *v);
status_t h5_get_text(hid_t at, const char *name, char **text);
/* Reads a dataset, checks type, shape against storage, and checksum; *data is malloced. data NULL: does not read what
 * it holds. */
status_t h5_get_data(hid_t group, const char *name, hid_t type, int *rank, int64_t dim[CHECKPOINT_RANK], void **data,
                     uint64_t *checksum);
