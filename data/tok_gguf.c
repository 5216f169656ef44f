/* Tokenizers out of GGUF metadata (tokenizer.ggml.*). GGUF keeps the vocabulary but only names the rest: `pre` stands
 * for normalizer and pre-tokenizer, the model for the decoder. We rebuild what the model's own tokenizer does, so that
 * ids equal those of its tokenizer.json. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistr.h>
#include "data/gguf.h"
#include "data/tokenizer_impl.h"

#define KEY(name) "tokenizer.ggml." name

enum token_type { TYPE_NORMAL = 1, TYPE_UNKNOWN = 2, TYPE_CONTROL = 3, TYPE_USER = 4 };

typedef enum { FLOW_GPT2, FLOW_DIGITS, FLOW_LLAMA3, FLOW_QWEN2, FLOW_DEFAULT } flow_t;
static const struct {
    const char *pre;
    flow_t flow;
    bool ignore_merges, add_bos;
} FLOWS[] = {
    {"gpt-2", FLOW_GPT2, false, false},      {"gpt2", FLOW_GPT2, false, false},
    {"phi-2", FLOW_GPT2, false, false},      {"olmo", FLOW_GPT2, false, false},
    {"smollm", FLOW_DIGITS, false, false},   {"starcoder", FLOW_DIGITS, false, false},
    {"refact", FLOW_DIGITS, false, false},   {"command-r", FLOW_DIGITS, false, false},
    {"llama-bpe", FLOW_LLAMA3, true, true},  {"llama3", FLOW_LLAMA3, true, true},
    {"llama-v3", FLOW_LLAMA3, true, true},   {"smaug-bpe", FLOW_LLAMA3, false, false},
    {"qwen2", FLOW_QWEN2, false, false},     {"deepseek-r1-qwen", FLOW_QWEN2, false, false},
    {"stablelm2", FLOW_QWEN2, false, false}, {"default", FLOW_DEFAULT, false, false},
};

static status_t missing(const gguf_t *g, const char *key) {
    return st_raise(ST_INPUT, gguf_path(g), "%s is missing or of another type; convert the model again", key);
}

/* A byte that some files hold for an empty token would make two tokens of one text, hence the name of its own. */
static status_t read_tokens(tokenizer_t *t, const gguf_t *g) {
    int64_t n = gguf_arr_count(g, KEY("tokens"));
    if (n <= 0) return missing(g, KEY("tokens"));
    if (n > TOK_MAX_ID) return st_raise(ST_INPUT, gguf_path(g), KEY("tokens") ": more than %d tokens", TOK_MAX_ID);
    for (int64_t i = 0; i < n; i++) {
        const char *s;
        size_t len;
        char name[40];
        int64_t type = TYPE_NORMAL;
        if (!gguf_arr_str(g, KEY("tokens"), i, &s, &len)) return missing(g, KEY("tokens"));
        if (!len) {
            s = name;
            len = (size_t)snprintf(name, sizeof name, "[EMPTY_%lld]", (long long)i);
        }
        gguf_arr_i64(g, KEY("token_type"), i, &type);
        if (u8_check((const uint8_t *)s, len))
            return st_raise(ST_INPUT, gguf_path(g), KEY("tokens") "[%lld] is not UTF-8", (long long)i);
        if (vocab_find(&t->vocab, s, len))
            return st_raise(ST_INPUT, gguf_path(g), KEY("tokens") "[%lld]: '%.*s' is there twice", (long long)i,
                            (int)(len < 200 ? len : 200), s);
        /* SentencePiece never merges text into control tokens; in a byte-level vocabulary HF's file has them too */
        TRY(vocab_add(&t->vocab, s, len, (int32_t)i, true, type == TYPE_CONTROL || type == TYPE_UNKNOWN));
    }
    return ST_OK;
}

static status_t read_added(tokenizer_t *t, const gguf_t *g) {
    int64_t n = gguf_arr_count(g, KEY("token_type"));
    for (int64_t i = 0; i < n && i < t->vocab.ids; i++) {
        int64_t type = TYPE_NORMAL;
        const tok_entry_t *e = vocab_at(&t->vocab, i);
        if (!gguf_arr_i64(g, KEY("token_type"), i, &type)) return missing(g, KEY("token_type"));
        if (!e || (type != TYPE_CONTROL && type != TYPE_USER && type != TYPE_UNKNOWN)) continue;
        /* inserting copies no text, but takes it from the table it writes to */
        char *s = buf_strndup(t->vocab.text.data + e->off, e->len);
        if (!s) return ST_NOMEM;
        status_t st = added_insert(t, s, e->len, (added_token_t){.special = type != TYPE_USER});
        free(s);
        TRY(st);
    }
    return added_finish(t);
}

static status_t read_merges(tokenizer_t *t, const gguf_t *g) {
    int64_t n = gguf_arr_count(g, KEY("merges"));
    if (n < 0) return missing(g, KEY("merges"));
    if (n > INT32_MAX) return st_raise(ST_INPUT, gguf_path(g), KEY("merges") ": too many");
    strbuf_t joined = {0};
    status_t st = ST_OK;
    for (int64_t i = 0; i < n && st == ST_OK; i++) {
        const char *s;
        size_t len;
        if (!gguf_arr_str(g, KEY("merges"), i, &s, &len)) {
            st = missing(g, KEY("merges"));
            break;
        }
        const char *gap = len > 1 ? memchr(s + 1, ' ', len - 1) : NULL;
        size_t a = gap ? (size_t)(gap - s) : len;
        size_t b = gap ? len - a - 1 : 0;
        strbuf_clear(&joined);
        st = strbuf_add(&joined, s, a);
        if (st == ST_OK && b) st = strbuf_add(&joined, gap + 1, b);
        if (st != ST_OK) break;
        int32_t left = vocab_model_id(&t->vocab, s, a), right = b ? vocab_model_id(&t->vocab, gap + 1, b) : -1;
        int32_t product = vocab_model_id(&t->vocab, joined.data, joined.len);
        if (left < 0 || right < 0 || product < 0)
            st = st_raise(ST_INPUT, gguf_path(g), KEY("merges") "[%lld]: '%.*s' is not two tokens that join to a third",
                          (long long)i, (int)(len < 200 ? len : 200), s);
        else
            st = pairmap_set(&t->bpe.merges, pair_key(left, right), (uint32_t)i, (uint32_t)product);
    }
    strbuf_release(&joined);
    return st;
}

static status_t add_pattern(tokenizer_t *t, const char *pattern) {
    return tok_add_split(t, pattern, strlen(pattern), true, SPLIT_ISOLATED, false);
}

static status_t add_flow(tokenizer_t *t, flow_t flow) {
    if (flow == FLOW_QWEN2) TRY(tok_add_norm(t, NORM_NFC, "", 0, "", 0));
    if (flow == FLOW_LLAMA3) TRY(add_pattern(t, TOK_RE_LLAMA3));
    if (flow == FLOW_QWEN2) TRY(add_pattern(t, TOK_RE_QWEN2));
    if (flow == FLOW_DIGITS) TRY(add_pattern(t, TOK_RE_DIGIT));
    if (flow == FLOW_DEFAULT) { /* what llama.cpp does with a file that does not name its pre-tokenizer */
        TRY(add_pattern(t, "[\\p{P}\\$\\+<=>\\^~\\|]+"));
        TRY(add_pattern(t, "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)"));
        TRY(add_pattern(t, "\\p{N}+"));
        TRY(add_pattern(t, "[0-9][0-9][0-9]"));
    }
    TRY(tok_add_byte_level(t, false, flow == FLOW_GPT2 || flow == FLOW_DIGITS));
    return tok_add_decoder(t, (dec_step_t){.kind = DEC_BYTE_LEVEL});
}

static status_t open_gpt2(tokenizer_t *t, const gguf_t *g, bool *add_bos) {
    const char *pre = NULL;
    size_t n = 0, i = 0, count = sizeof FLOWS / sizeof *FLOWS;
    if (!gguf_get_str(g, KEY("pre"), &pre, &n)) {
        fprintf(stderr,
                "graft: notice: %s: " KEY("pre") " is missing; splitting text as 'default', which may not be the "
                                                 "model's way\n",
                gguf_path(g));
        pre = "default";
        n = strlen(pre);
    }
    while (i < count && (strlen(FLOWS[i].pre) != n || memcmp(FLOWS[i].pre, pre, n) != 0)) i++;
    if (i == count)
        return st_raise(ST_INPUT, gguf_path(g),
                        KEY("pre") " '%.*s' is not supported; use the model's Hugging Face directory",
                        (int)(n < 200 ? n : 200), pre);
    TRY(read_merges(t, g));
    t->bpe.ignore_merges = FLOWS[i].ignore_merges;
    *add_bos = FLOWS[i].add_bos;
    return add_flow(t, FLOWS[i].flow);
}

#define SPACE_MARK "\xe2\x96\x81" /* U+2581 */

static status_t open_llama(tokenizer_t *t, const gguf_t *g) {
    int64_t n = t->vocab.ids;
    void *score = NULL;
    if (gguf_arr_count(g, KEY("scores")) < n) return missing(g, KEY("scores"));
    TRY(buf_calloc(&score, n, sizeof(float), "token scores"));
    t->bpe.score = score;
    t->bpe.scores = n;
    for (int64_t i = 0; i < n; i++) {
        double s;
        if (!gguf_arr_f64(g, KEY("scores"), i, &s) || s != s)
            return st_raise(ST_INPUT, gguf_path(g), KEY("scores") "[%lld] is not a number", (long long)i);
        t->bpe.score[i] = (float)s;
    }
    t->bpe.by_score = true;
    bool prefix = true;
    gguf_get_bool(g, KEY("add_space_prefix"), &prefix);
    if (prefix) TRY(tok_add_norm(t, NORM_PREPEND, "", 0, SPACE_MARK, 3));
    TRY(tok_add_norm(t, NORM_REPLACE, " ", 1, SPACE_MARK, 3));
    char mark[] = SPACE_MARK, space[] = " ";
    TRY(tok_add_decoder(t, (dec_step_t){.kind = DEC_REPLACE, .from = mark, .from_n = 3, .to = space, .to_n = 1}));
    TRY(tok_add_decoder(t, (dec_step_t){.kind = DEC_BYTE_FALLBACK}));
    TRY(tok_add_decoder(t, (dec_step_t){.kind = DEC_FUSE}));
    if (!prefix) return ST_OK;
    return tok_add_decoder(t, (dec_step_t){.kind = DEC_STRIP, .from = space, .from_n = 1, .start = 1});
}

/* An id by key; `otherwise` (or -1) when the key is absent. */
static status_t read_id(const tokenizer_t *t, const gguf_t *g, const char *key, int64_t otherwise, int32_t *out) {
    int64_t id = otherwise;
    if (gguf_get_i64(g, key, &id) && !vocab_at(&t->vocab, id))
        return st_raise(ST_INPUT, gguf_path(g), "%s is %lld, which no token has", key, (long long)id);
    *out = vocab_at(&t->vocab, id) ? (int32_t)id : -1;
    return ST_OK;
}

static status_t read_ends(tokenizer_t *t, const gguf_t *g, bool llama, bool add_bos) {
    bool add_eos = false;
    int32_t bos = -1;
    gguf_get_bool(g, KEY("add_bos_token"), &add_bos);
    gguf_get_bool(g, KEY("add_eos_token"), &add_eos);
    TRY(read_id(t, g, KEY("bos_token_id"), llama ? 1 : 11, &bos));
    TRY(read_id(t, g, KEY("eos_token_id"), llama ? 2 : 11, &t->eos));
    TRY(read_id(t, g, KEY("unknown_token_id"), llama ? 0 : -1, &t->bpe.unk));
    if (add_bos && bos >= 0) TRY(i32buf_push(&t->front, bos));
    if (add_eos && t->eos >= 0) TRY(i32buf_push(&t->back, t->eos));
    return ST_OK;
}

static status_t parse_gguf(tokenizer_t *t, const gguf_t *g) {
    const char *s;
    size_t n;
    if (gguf_get_str(g, "tokenizer.huggingface.json", &s, &n)) {
        json_error_t error;
        json_t *root = json_loadb(s, n, JSON_ALLOW_NUL, &error);
        if (!root)
            return st_raise(ST_INPUT, gguf_path(g), "tokenizer.huggingface.json line %d: %s", error.line, error.text);
        status_t st = tokenizer_parse_json(t, root);
        json_decref(root);
        return st == ST_OK ? read_id(t, g, KEY("eos_token_id"), -1, &t->eos) : st;
    }
    if (!gguf_get_str(g, KEY("model"), &s, &n)) return missing(g, KEY("model"));
    bool llama = n == 5 && !memcmp(s, "llama", 5), add_bos = llama;
    if (!llama && !(n == 4 && !memcmp(s, "gpt2", 4)))
        return st_raise(ST_INPUT, gguf_path(g),
                        KEY("model") " '%.*s' is not supported; use a model with a BPE tokenizer",
                        (int)(n < 200 ? n : 200), s);
    TRY(read_tokens(t, g));
    if (llama)
        TRY(open_llama(t, g));
    else
        TRY(open_gpt2(t, g, &add_bos));
    TRY(read_ends(t, g, llama, add_bos));
    bpe_find_bytes(t);
    TRY(strbuf_addf(&t->settings, "gguf %d %d %d\n", llama, t->bpe.ignore_merges, t->bpe.unk));
    return read_added(t, g);
}

status_t tokenizer_open_gguf(const gguf_t *file, tokenizer_t **out) {
    tokenizer_t *t = NULL;
    TRY(tokenizer_alloc(gguf_path(file), &t));
    status_t st = parse_gguf(t, file);
    if (st != ST_OK) {
        tokenizer_close(t);
        return st;
    }
    tokenizer_seal(t);
    *out = t;
    return ST_OK;
}
