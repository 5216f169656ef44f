/* Tokenizers of base models: byte-level BPE and byte-fallback BPE, from tokenizer.json or from GGUF metadata.
 *
 * A tokenizer is read-only after it is opened: any number of threads may encode and decode with it at once. Ids equal
 * those of Hugging Face `tokenizers` for the same file (formats.md 5 lists the semantics). All functions are *local*.
 */
#pragma once
#include <stdbool.h>
#include <stdint.h>
#include "kernels/buf.h"
#include "kernels/status.h"

typedef struct tokenizer tokenizer_t;
struct gguf; /* data/gguf.h */

/* Opens DIR/tokenizer.json (and DIR/tokenizer_config.json when there). ST_INPUT names file and field. */
status_t tokenizer_open_dir(const char *dir, tokenizer_t **out);
/* Opens the tokenizer.ggml.* metadata of an open GGUF file; the tokenizer keeps nothing of it. */
status_t tokenizer_open_gguf(const struct gguf *file, tokenizer_t **out);
void tokenizer_close(tokenizer_t *t);
/* Adds special tokens as `tokenizers` does: a new text gets the next id behind the highest, a text that is a token
 * keeps its id; in a text to encode each becomes one id. Before any other use. ST_USAGE for a text that is empty or not
 * UTF-8, ST_INPUT when the tokenizer's ids have a gap. */
status_t tokenizer_add_special(tokenizer_t *t, const char *const *text, int n);

/* Appends the ids of `text` (UTF-8, n bytes, may contain NUL) to `ids`. Text of added/special tokens in it becomes
 * those tokens, as in `tokenizers`. With add_special the post-processor's tokens (BOS ...) are put around. */
status_t tokenizer_encode(const tokenizer_t *t, const char *text, size_t n, bool add_special, i32buf_t *ids);
/* Appends the text of the ids, special tokens printed unless skip_special. ST_INPUT on an id out of range. */
status_t tokenizer_decode(const tokenizer_t *t, const int32_t *ids, int64_t n, bool skip_special, strbuf_t *text);

int32_t tokenizer_vocab_size(const tokenizer_t *t);              /* highest id + 1 */
int32_t tokenizer_eos(const tokenizer_t *t);                     /* -1 if the model names none */
const int32_t *tokenizer_prefix(const tokenizer_t *t, int *n);   /* what the tokenizer puts in front: BOS or nothing */
int32_t tokenizer_token_id(const tokenizer_t *t, const char *s); /* id of exactly this token text, -1 if none */
uint64_t tokenizer_fingerprint(const tokenizer_t *t);            /* XXH64 over vocabulary, merges and settings */
/* The same as it was before tokens were added: ids of texts without those tokens are the same for both. */
uint64_t tokenizer_opened_fingerprint(const tokenizer_t *t);
