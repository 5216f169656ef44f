/* Inside of the tokenizers, shared by data/tok_*.c, data/bpe.c and data/pretok.c; others include data/tokenizer.h.
 *
 * Everything in struct tokenizer is written while the tokenizer is opened and read-only afterwards; what a call needs
 * beyond that (regular-expression match data, symbol lists, scratch text) lives in one encode_ctx_t per call. All text
 * is valid UTF-8: it is checked once, where it comes in. All functions are *local*. */
#pragma once
#define PCRE2_CODE_UNIT_WIDTH 8
#include <jansson.h>
#include <pcre2.h>
#include "data/tokenizer.h"

#define TOK_MAX_ID    (1 << 24) /* ids index arrays: a wild id in a file must not become a wild allocation */
#define TOK_MAX_STEPS 32        /* components of one kind after flattening nested Sequences */

/* u64 -> two u32, open addressing. The key UINT64_MAX stands for a free slot and is never stored. */
typedef struct pairmap {
    uint64_t *key;
    uint32_t (*val)[2];
    uint64_t mask; /* slots - 1; 0: nothing allocated */
    int64_t used;
} pairmap_t;
status_t pairmap_set(pairmap_t *m, uint64_t key, uint32_t a, uint32_t b); /* replaces an old value */
const uint32_t *pairmap_get(const pairmap_t *m, uint64_t key);            /* NULL if absent */
void pairmap_release(pairmap_t *m);
static inline uint64_t pair_key(int32_t a, int32_t b) {
    return (uint64_t)(uint32_t)a << 32 | (uint32_t)b;
}

/* One token text. Model tokens and added tokens share the table; only `in_model` ones are seen by the model. */
typedef struct tok_entry {
    size_t off, len; /* in vocab.text */
    int32_t id;
    bool in_model, special;
} tok_entry_t;

typedef struct tok_vocab {
    strbuf_t text;
    tok_entry_t *entry;
    int64_t count, cap;
    uint32_t *slot; /* entry + 1; 0: free */
    uint64_t mask;
    int32_t *by_id; /* entry of an id, -1: no such token */
    int64_t ids, ids_cap;
    int64_t model_count;
} tok_vocab_t;
const tok_entry_t *vocab_find(const tok_vocab_t *v, const char *s, size_t n);
int32_t vocab_model_id(const tok_vocab_t *v, const char *s, size_t n); /* -1 if the model has no such token */
const tok_entry_t *vocab_at(const tok_vocab_t *v, int64_t id);         /* NULL if no such token */
/* Adds a text that is not there yet. The id may be in use: the newer text then answers for it in vocab_at. */
status_t vocab_add(tok_vocab_t *v, const char *s, size_t n, int32_t id, bool in_model, bool special);
void vocab_release(tok_vocab_t *v);

/* Added tokens: matched in the text before the model sees it. */
typedef struct added_token {
    int32_t id;
    bool single_word, lstrip, rstrip, normalized, special;
} added_token_t;
typedef struct added_set { /* a trie over the patterns; leftmost-longest search */
    pairmap_t child;       /* (node, byte) -> node; the root is node 0 */
    int32_t *token;        /* by node: index into added[], -1: no pattern ends here */
    int64_t nodes, cap;
} added_set_t;
status_t added_set_insert(added_set_t *s, const char *pattern, size_t n, int32_t token);
void added_set_release(added_set_t *s);
/* Files one added token; its id is the model's, or the next free one, as in `tokenizers`. */
status_t added_insert(tokenizer_t *t, const char *s, size_t n, added_token_t flags);
status_t added_finish(tokenizer_t *t); /* builds the two tries once the normalizers are known */

/* A piece [from, to) of a text; `token` >= 0: index of the added token it is; `match` for pattern pieces. */
typedef struct span {
    size_t from, to;
    int32_t token;
    bool match;
} span_t;
typedef struct spanbuf {
    span_t *data;
    int64_t len, cap;
} spanbuf_t;
status_t spanbuf_push(spanbuf_t *b, size_t from, size_t to, int32_t token, bool match);
status_t added_split(const tokenizer_t *t, const added_set_t *s, const char *text, size_t n, spanbuf_t *out);

typedef enum { NORM_NFC, NORM_PREPEND, NORM_REPLACE } norm_kind_t;
typedef struct norm_step {
    norm_kind_t kind;
    char *from, *to; /* Prepend: `to`; Replace: both */
    size_t from_n, to_n;
} norm_step_t;
/* Appends the normalised text to `out`. */
status_t tok_normalize(const tokenizer_t *t, const char *text, size_t n, strbuf_t *out);
/* Appends text with every occurrence of `from` (not empty) replaced by `to`. */
status_t text_replace(const char *text, size_t n, const char *from, size_t from_n, const char *to, size_t to_n,
                      strbuf_t *out);
bool char_is_space(uint32_t c);       /* White_Space */
bool char_is_word(uint32_t c);        /* \w of Rust's regex crate */
bool char_is_nfc_barrier(uint32_t c); /* inert under NFC for `tokenizers`, though Unicode says otherwise by now */

typedef enum { PRE_BYTE_LEVEL, PRE_SPLIT, PRE_METASPACE } pre_kind_t;
typedef enum { SPLIT_REMOVED, SPLIT_ISOLATED, SPLIT_PREVIOUS, SPLIT_NEXT, SPLIT_CONTIGUOUS } split_behavior_t;
typedef enum { PREPEND_NEVER, PREPEND_FIRST, PREPEND_ALWAYS } prepend_t;
typedef struct pre_step {
    pre_kind_t kind;
    pcre2_code *re; /* PRE_BYTE_LEVEL with a pattern, PRE_SPLIT by pattern; else NULL */
    char *literal;  /* PRE_SPLIT by string, PRE_METASPACE: the replacement */
    size_t literal_n;
    bool prefix_space, invert, split;
    split_behavior_t behavior;
    prepend_t prepend;
} pre_step_t;
extern const char *const TOK_RE_GPT2, *const TOK_RE_LLAMA3, *const TOK_RE_QWEN2, *const TOK_RE_DIGIT;
/* Compiles a pattern in Oniguruma's Ruby syntax; ST_INPUT with `where` when it uses what PCRE2 understands otherwise.
 */
status_t tok_regex_compile(const char *pattern, size_t n, const char *where, pcre2_code **out);

typedef struct bpe_model {
    bool by_score; /* SentencePiece: any two neighbours whose joined text is a token, best score first */
    bool byte_fallback, has_unk, fuse_unk, ignore_merges;
    int32_t unk;
    int32_t byte_id[256]; /* tokens <0x00> ... <0xFF>, -1: absent */
    pairmap_t merges;     /* (left, right) -> rank, product */
    float *score;         /* by id, by_score only */
    int64_t scores;
    char *prefix, *suffix; /* continuing_subword_prefix, end_of_word_suffix; NULL: none */
} bpe_model_t;
void bpe_find_bytes(tokenizer_t *t); /* fills byte_id */

typedef enum { DEC_BYTE_LEVEL, DEC_REPLACE, DEC_BYTE_FALLBACK, DEC_FUSE, DEC_STRIP, DEC_METASPACE } dec_kind_t;
typedef struct dec_step {
    dec_kind_t kind;
    char *from, *to; /* Replace; Strip and Metaspace: `from` is one character */
    size_t from_n, to_n;
    int64_t start, stop;
    bool keep_first; /* Metaspace with prepend_scheme never */
} dec_step_t;

struct tokenizer {
    char *path; /* for messages */
    tok_vocab_t vocab;
    bpe_model_t bpe;
    added_token_t *added;
    int64_t added_count, added_cap;
    int32_t added_max; /* highest id of an added token, -1 */
    added_set_t raw, normalized;
    norm_step_t norm[TOK_MAX_STEPS];
    pre_step_t pre[TOK_MAX_STEPS];
    dec_step_t dec[TOK_MAX_STEPS];
    int norms, pres, decs;
    bool has_decoder;
    i32buf_t front, back; /* what the post-processor puts around */
    int32_t eos;
    strbuf_t settings; /* one line a component, for the fingerprint */
    uint64_t fingerprint, opened_fingerprint;
};
status_t tokenizer_alloc(const char *path, tokenizer_t **out);
void tokenizer_seal(tokenizer_t *t); /* computes the fingerprint: the last step of opening */
/* Fills a tokenizer from the text of a tokenizer.json; `path` names it in messages. */
status_t tokenizer_parse_json(tokenizer_t *t, const json_t *root);
status_t tok_parse_norm(tokenizer_t *t, const json_t *node, int depth);
status_t tok_parse_pre(tokenizer_t *t, const json_t *node, int depth);
status_t tok_parse_decoder(tokenizer_t *t, const json_t *node, int depth);
status_t tok_json_string(const tokenizer_t *t, const json_t *node, const char *key, char **s, size_t *n);
bool tok_json_bool(const json_t *node, const char *key, bool otherwise);
/* Constructors used by both kinds of file; they file the component in `settings` too. */
status_t tok_add_norm(tokenizer_t *t, norm_kind_t kind, const char *from, size_t from_n, const char *to, size_t to_n);
status_t tok_add_byte_level(tokenizer_t *t, bool prefix_space, bool use_regex);
status_t tok_add_split(tokenizer_t *t, const char *pattern, size_t n, bool is_regex, split_behavior_t b, bool invert);
status_t tok_add_decoder(tokenizer_t *t, dec_step_t step);

/* What one encode call works with. */
typedef struct bpe_symbol {
    size_t from, len; /* bytes of the word; len 0: merged away */
    int32_t id, prev, next;
} bpe_symbol_t;
typedef struct bpe_merge {
    double priority; /* rank, or minus the score: lower first, then the leftmost */
    int32_t pos, product;
} bpe_merge_t;
typedef struct encode_ctx {
    const tokenizer_t *t;
    i32buf_t *ids;
    strbuf_t norm, scratch[TOK_MAX_STEPS][2];
    spanbuf_t raw, inner, spans[TOK_MAX_STEPS];
    pcre2_match_data *match;
    pcre2_match_context *limits;
    pcre2_jit_stack *stack;
    bpe_symbol_t *symbol;
    int64_t symbols, symbol_cap;
    bpe_merge_t *heap;
    int64_t heap_len, heap_cap;
} encode_ctx_t;
/* Pre-tokenises a piece from step `k` on and gives every word to the model. `first`: it starts the whole text. */
status_t pretok_run(encode_ctx_t *c, int k, const char *text, size_t n, bool first);
status_t bpe_encode_word(encode_ctx_t *c, const char *word, size_t n);

uint32_t byte_to_char(unsigned byte);                    /* the GPT-2 alphabet */
int char_to_byte(uint32_t c);                            /* -1: not in the alphabet */
size_t utf8_put(uint32_t c, char out[4]);                /* length */
size_t utf8_get(const char *s, uint32_t *c);             /* of valid text, not at its end; length */
size_t utf8_back(const char *s, size_t at, uint32_t *c); /* the character before `at` > 0; length */
