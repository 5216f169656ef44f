/* Checkpoints: one HDF5 file with everything a run needs to go on with the same bits.
 *
 * The HDF5 file is followed by 24 bytes with a checksum of the whole, which HDF5 readers ignore (checkpoint_impl.h).
 * Equal states give equal files, byte for byte. Not for concurrent use: HDF5 and its error state belong to the main
 * thread.
 *
 * A file is written to a temporary name, every tensor with a checksum taken from memory, closed, synced, opened again
 * and compared, then renamed; the directory is synced. A torn file is never taken for a checkpoint. Loading verifies
 * every checksum; a damaged newest checkpoint is named and the one before it is used. All functions are *local*: rank 0
 * writes, every rank reads or receives by broadcast as the run decides. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/status.h"

typedef struct checkpoint_tensor {
    const char *name; /* PEFT or Hugging Face parameter name */
    int rank;
    int64_t dim[3];
    float *data;     /* value, in native shape; written or filled */
    float *state[2]; /* optimiser states of the same shape (exp_avg, exp_avg_sq); NULL: none */
} checkpoint_tensor_t;

typedef struct checkpoint_meta {
    int64_t step;       /* updates done */
    int64_t tokens;     /* tokens seen */
    int64_t sequences;  /* stream cursor: sequences consumed */
    int64_t epoch_hint; /* epoch the cursor is in, for people */
    uint64_t seed;      /* of the Philox counters; with step, the whole state of randomness */
    uint64_t base_fingerprint, tokenizer_fingerprint, data_fingerprint;
    const char *family;      /* model family name */
    const char *base_path;   /* as configured, absolute */
    const char *method;      /* type of the method */
    const char *config_yaml; /* resolved configuration */
    const char *choices;     /* of a device's libraries (kernels/device.h); "" or NULL: none */
    const double *history;   /* [n_history, 4]: step, loss, grad_norm, learning_rate */
    int64_t n_history;
} checkpoint_meta_t;

/* Writes PATH. n tensors. ST_NOSPACE / ST_IO; nothing is published then. */
status_t checkpoint_write(const char *path, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n);

typedef struct checkpoint checkpoint_t; /* an open, verified checkpoint, its contents in memory */

/* Opens and verifies. ST_INPUT says what is damaged. */
status_t checkpoint_open(const char *path, checkpoint_t **out);
void checkpoint_close(checkpoint_t *c);
const checkpoint_meta_t *checkpoint_meta(const checkpoint_t *c); /* strings live until close */
int64_t checkpoint_count(const checkpoint_t *c);
const checkpoint_tensor_t *checkpoint_at(const checkpoint_t *c, int64_t i);
const checkpoint_tensor_t *checkpoint_find(const checkpoint_t *c, const char *name);

/* The newest checkpoint-<step>.h5 of DIR that verifies, beginning with the one that the file `latest` names (later ones
 * come last: they are of a branch that was left), or with the newest when it names none that is there; each rejected
 * file is reported through `warn`. *out NULL with ST_OK when there is none at all; ST_INPUT when files are there but
 * none verifies. */
status_t checkpoint_latest(const char *dir, void (*warn)(void *, const char *), void *arg, checkpoint_t **out);
/* Publishes DIR/checkpoint-<step>.h5 and moves `latest`; then deletes the oldest beyond keep (0: keeps all; files
 * of later steps are left alone). Removes stale temporary files of earlier writers. DIR must exist. */
status_t checkpoint_save(const char *dir, const checkpoint_meta_t *meta, const checkpoint_tensor_t *t, int64_t n,
                         int64_t keep);

/* Publishes PATH as a second name of DIR/checkpoint-<step>.h5, so that the same state is not written twice. *done false
 * when there is no such file, or the file system has no second names for PATH: then write it. */
status_t checkpoint_link(const char *dir, int64_t step, const char *path, bool *done);

/* `graft inspect` of a checkpoint: tree with shapes, dtypes, fingerprints on stdout. */
status_t checkpoint_inspect(const char *path, bool json, bool verify);
