/* Inside the token store only: the layout that its writer and its reader share. */
#pragma once
#include "data/token_store.h"

#define STORE_FORMAT       "graft-token-store"
#define STORE_FOOTER_MAGIC "GRAFTTS1"
enum { STORE_VERSION = 1, STORE_FOOTER_BYTES = 40, STORE_BLOCK = 65536, STORE_TEXT_MOST = 4096 };

/* The datasets with data, in the order in which they stand in the file; their checksums follow in the same order. */
enum { STORE_TOKENS, STORE_OFFSETS, STORE_METADATA, STORE_METADATA_OFFSETS, STORE_FIELDS, STORE_STREAMS };
extern const char *const token_store_stream_names[STORE_STREAMS];

typedef struct store_stream {
    int64_t at, bytes;        /* where in the file, and how much */
    int64_t blocks, check_at; /* of STORE_BLOCK bytes, the last one may be shorter; where their checksums stand */
} store_stream_t;

typedef struct store_layout {
    store_stream_t stream[STORE_STREAMS];
    int64_t head_bytes, end; /* the footer begins at `end` */
} store_layout_t;

/* Sizes of the streams, places left 0. ST_INPUT when they are no sizes. *local* */
status_t token_store_sizes(const token_store_info_t *info, store_layout_t *layout);

/* Makes the HDF5 head for these sizes and fills in the places. `head` is owned by the caller. HDF5 works in memory, so
 * that every byte on disk is written by us and every error is an errno of our own call. */
status_t token_store_make_head(const token_store_info_t *info, store_layout_t *layout, char **head);

/* Reads attributes and places from a file whose head is known to be undamaged. `info` without fields; its texts and
 * *version are owned by the caller, also after an error (then NULL or set). */
status_t token_store_read_head(const char *path, token_store_info_t *info, char **version, store_layout_t *layout);
