/* Token stores: documents tokenised once, with their metadata, so that any conditioning is rendered at load time.
 *
 * One HDF5 file (h5py and the HDF5 tools read it), n documents, t tokens, m bytes of metadata:
 *   /tokens            [t]    uint16, or uint32 for vocabularies above 65536: bodies alone, no BOS, no EOS, no metadata
 *   /offsets           [n+1]  int64, document i has tokens [offsets[i], offsets[i+1])
 *   /metadata          [m]    bytes: of each document one JSON object, compact, keys sorted, without the text
 *   /metadata_offsets  [n+1]  int64
 *   /metadata_fields   bytes: {"url": {"string": 12, "null": 1}, ...}: in how many documents a field has which type
 *   /checksums/<name>  uint64, XXH64 (seed 0) of each block of 65536 bytes of /<name>
 *   attributes of /    format, format_version, graft_version, documents, tokens, metadata_bytes,
 *                      tokenizer_fingerprint, tokenizer (its path as it was given), text_field, input_fingerprint
 * All datasets are contiguous and gap-free behind the file's head. A footer, which HDF5 readers ignore, guards the
 * rest: magic "GRAFTTS1", u64 bytes before the footer, u64 bytes of the head, u64 XXH64 of the head, u64 XXH64 of all
 *   checksums in the order of the list above; little-endian. It is checked before HDF5 sees the file.
 *
 * Opening checks the footer, the head, the checksums' own sum, both offset tables and the field table. Every other
 * block is verified when it is first read; a damaged one is ST_INPUT with dataset and block. Opening and closing are
 * not thread-safe (HDF5 is not); everything else is, and does not use HDF5: it reads with pread. Memory: 16 bytes a
 * document and 9 bytes a block. All functions are *local*. */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"

typedef struct token_store token_store_t;

/* What a store says of itself. Strings belong to the store. */
typedef struct token_store_info {
    int64_t documents, tokens, metadata_bytes;
    int token_bytes;                /* 2 or 4 */
    uint64_t tokenizer_fingerprint; /* tokenizer_fingerprint() of the tokenizer that made the ids */
    uint64_t input_fingerprint;     /* of the lines and settings that it was built from */
    const char *tokenizer;          /* path of the model whose tokenizer it was */
    const char *text_field;         /* the field of a line that was tokenised */
    const char *fields;             /* JSON text of /metadata_fields */
} token_store_info_t;

/* Whether the file ends as a finished store does; false also for what cannot be read. */
bool token_store_recognise(const char *path);

/* ST_INPUT: missing, no store, truncated, damaged, or of a newer format. */
status_t token_store_open(const char *path, token_store_t **out);
void token_store_close(token_store_t *s); /* NULL is fine */

const char *token_store_path(const token_store_t *s);
const token_store_info_t *token_store_info(const token_store_t *s);
const char *token_store_version(const token_store_t *s);  /* of the graft that wrote it */
uint64_t token_store_fingerprint(const token_store_t *s); /* of the contents: tokens, metadata and tokenizer */
int64_t token_store_bytes(const token_store_t *s);        /* of the file */
int64_t token_store_documents(const token_store_t *s);
/* Tokens of document i, without reading them; at least 1. */
int64_t token_store_length(const token_store_t *s, int64_t document);

/* Appends the ids of tokens [from, from + n) of the document. ST_INPUT: a damaged block, the file changed. */
status_t token_store_ids(const token_store_t *s, int64_t document, int64_t from, int64_t n, i32buf_t *ids);
/* Replaces `json` by the metadata of the document: a JSON object, "{}" if there is none. ST_INPUT as above. */
status_t token_store_metadata(const token_store_t *s, int64_t document, strbuf_t *json);
/* Reads every block. ST_INPUT names the first damaged one. */
status_t token_store_verify(const token_store_t *s);
