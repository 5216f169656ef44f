/* tokenizer.json and the files beside it: model, added tokens, post-processor, EOS. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "data/tokenizer_impl.h"

static status_t parse_vocab(tokenizer_t *t, json_t *vocab) {
    const char *key;
    json_t *value;
    if (!json_is_object(vocab)) return st_raise(ST_INPUT, t->path, "model.vocab is missing or not an object");
    json_object_foreach(vocab, key, value) {
        json_int_t id = json_is_integer(value) ? json_integer_value(value) : -1;
        if (id < 0 || id >= TOK_MAX_ID)
            return st_raise(ST_INPUT, t->path, "model.vocab: the id of '%s' is not in 0...%d", key, TOK_MAX_ID - 1);
        TRY(vocab_add(&t->vocab, key, strlen(key), (int32_t)id, true, false));
    }
    return ST_OK;
}

static status_t no_token(const tokenizer_t *t, const char *s, size_t n) {
    return st_raise(ST_INPUT, t->path, "model.merges: '%.*s' is not in model.vocab", (int)(n < 200 ? n : 200), s);
}

static status_t add_merge(tokenizer_t *t, const char *a, size_t a_n, const char *b, size_t b_n, uint32_t rank) {
    size_t skip = t->bpe.prefix ? strlen(t->bpe.prefix) : 0;
    int32_t left = vocab_model_id(&t->vocab, a, a_n), right = vocab_model_id(&t->vocab, b, b_n);
    if (left < 0) return no_token(t, a, a_n);
    if (right < 0 || b_n < skip) return no_token(t, b, b_n);
    strbuf_t joined = {0};
    status_t st = strbuf_add(&joined, a, a_n);
    if (st == ST_OK) st = strbuf_add(&joined, b + skip, b_n - skip);
    if (st == ST_OK) {
        int32_t product = vocab_model_id(&t->vocab, joined.data, joined.len);
        if (product < 0)
            st = no_token(t, joined.data, joined.len);
        else
            st = pairmap_set(&t->bpe.merges, pair_key(left, right), rank, (uint32_t)product);
    }
    strbuf_release(&joined);
    return st;
}

/* Two encodings are in use: "a b" and ["a", "b"]. */
static status_t parse_merges(tokenizer_t *t, const json_t *merges) {
    if (!json_is_array(merges)) return st_raise(ST_INPUT, t->path, "model.merges is missing or not a list");
    size_t skipped = 0;
    for (size_t i = 0; i < json_array_size(merges); i++) {
        const json_t *m = json_array_get(merges, i);
        uint32_t rank = (uint32_t)(i - skipped);
        if (json_is_string(m)) {
            const char *s = json_string_value(m), *gap = strchr(s, ' ');
            size_t n = json_string_length(m);
            if (n >= 8 && memcmp(s, "#version", 8) == 0) {
                skipped++;
                continue;
            }
            if (!gap || strchr(gap + 1, ' '))
                return st_raise(ST_INPUT, t->path, "model.merges[%zu]: not two tokens with one space between", i);
            TRY(add_merge(t, s, (size_t)(gap - s), gap + 1, n - (size_t)(gap + 1 - s), rank));
        } else {
            const json_t *a = json_array_get(m, 0), *b = json_array_get(m, 1);
            if (json_array_size(m) != 2 || !json_is_string(a) || !json_is_string(b))
                return st_raise(ST_INPUT, t->path, "model.merges[%zu]: not a pair of tokens", i);
            TRY(add_merge(t, json_string_value(a), json_string_length(a), json_string_value(b), json_string_length(b),
                          rank));
        }
    }
    return ST_OK;
}

static status_t optional_text(const tokenizer_t *t, const json_t *model, const char *key, char **out) {
    const json_t *v = json_object_get(model, key);
    if (!v || json_is_null(v)) return ST_OK;
    if (!json_is_string(v)) return st_raise(ST_INPUT, t->path, "model.%s is not a string", key);
    if (!json_string_length(v)) return ST_OK; /* an empty decoration is none */
    *out = buf_strdup(json_string_value(v));
    return *out ? ST_OK : ST_NOMEM;
}

static status_t parse_model(tokenizer_t *t, const json_t *model) {
    bpe_model_t *m = &t->bpe;
    const char *type = json_string_value(json_object_get(model, "type"));
    if (!json_is_object(model)) return st_raise(ST_INPUT, t->path, "'model' is missing or not an object");
    if (!type && json_object_get(model, "merges")) type = "BPE"; /* old files do not say it */
    if (!type || strcmp(type, "BPE") != 0)
        return st_raise(ST_INPUT, t->path, "model '%s' is not supported; use a model with a BPE tokenizer",
                        type ? type : "?");
    if (json_number_value(json_object_get(model, "dropout")) > 0)
        return st_raise(ST_INPUT, t->path, "model.dropout is not supported: ids would be random; set it to null");
    TRY(parse_vocab(t, json_object_get(model, "vocab")));
    TRY(optional_text(t, model, "continuing_subword_prefix", &m->prefix));
    TRY(optional_text(t, model, "end_of_word_suffix", &m->suffix));
    m->byte_fallback = tok_json_bool(model, "byte_fallback", false);
    m->fuse_unk = tok_json_bool(model, "fuse_unk", false);
    m->ignore_merges = tok_json_bool(model, "ignore_merges", false);
    const json_t *unk = json_object_get(model, "unk_token");
    m->has_unk = json_is_string(unk);
    if (m->has_unk) m->unk = vocab_model_id(&t->vocab, json_string_value(unk), json_string_length(unk));
    bpe_find_bytes(t);
    TRY(strbuf_addf(&t->settings, "bpe %d %d %d %d %d %s %s\n", m->byte_fallback, m->fuse_unk, m->ignore_merges,
                    m->has_unk, m->unk, m->prefix ? m->prefix : "", m->suffix ? m->suffix : ""));
    return parse_merges(t, json_object_get(model, "merges"));
}

static status_t parse_added(tokenizer_t *t, const json_t *list) {
    if (!list || json_is_null(list)) return ST_OK;
    if (!json_is_array(list)) return st_raise(ST_INPUT, t->path, "'added_tokens' is not a list");
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *a = json_array_get(list, i), *content = json_object_get(a, "content");
        if (!json_is_string(content)) return st_raise(ST_INPUT, t->path, "added_tokens[%zu]: no 'content' string", i);
        bool special = tok_json_bool(a, "special", false);
        added_token_t flags = {.special = special,
                               .single_word = tok_json_bool(a, "single_word", false),
                               .lstrip = tok_json_bool(a, "lstrip", false),
                               .rstrip = tok_json_bool(a, "rstrip", false),
                               .normalized = tok_json_bool(a, "normalized", !special)};
        TRY(added_insert(t, json_string_value(content), json_string_length(content), flags));
    }
    return ST_OK;
}

/* The ids of a template's special token, by its name in `special_tokens`. */
static status_t template_ids(const tokenizer_t *t, const json_t *post, const json_t *piece, i32buf_t *out) {
    const char *name = json_string_value(json_object_get(piece, "id"));
    const json_t *ids =
        name ? json_object_get(json_object_get(json_object_get(post, "special_tokens"), name), "ids") : NULL;
    if (!json_is_array(ids))
        return st_raise(ST_INPUT, t->path, "post_processor: no ids of special token '%s'", name ? name : "?");
    for (size_t i = 0; i < json_array_size(ids); i++) {
        const json_t *id = json_array_get(ids, i);
        if (!json_is_integer(id) || !vocab_at(&t->vocab, json_integer_value(id)))
            return st_raise(ST_INPUT, t->path, "post_processor: special token '%s' has an id that no token has", name);
        TRY(i32buf_push(out, (int32_t)json_integer_value(id)));
    }
    return ST_OK;
}

static status_t parse_template(tokenizer_t *t, const json_t *post, int *templates) {
    const json_t *single = json_object_get(post, "single");
    bool seen = false;
    if (++*templates > 1) return st_raise(ST_INPUT, t->path, "post_processor: two templates are not supported");
    for (size_t i = 0; i < json_array_size(single); i++) {
        const json_t *piece = json_array_get(single, i), *special = json_object_get(piece, "SpecialToken");
        const char *sequence = json_string_value(json_object_get(json_object_get(piece, "Sequence"), "id"));
        if (special)
            TRY(template_ids(t, post, special, seen ? &t->back : &t->front));
        else if (sequence && !strcmp(sequence, "A") && !seen)
            seen = true;
        else
            return st_raise(ST_INPUT, t->path, "post_processor: 'single' has an entry that is not supported");
    }
    return seen ? ST_OK : st_raise(ST_INPUT, t->path, "post_processor: 'single' does not name sequence A");
}

static status_t parse_post(tokenizer_t *t, const json_t *post, int *templates, int depth) {
    if (!post || json_is_null(post)) return ST_OK;
    const char *type = json_string_value(json_object_get(post, "type"));
    if (!type) type = "?";
    if (!strcmp(type, "ByteLevel")) return ST_OK; /* moves offsets only */
    if (!strcmp(type, "TemplateProcessing")) return parse_template(t, post, templates);
    if (strcmp(type, "Sequence") != 0 || depth > 8)
        return st_raise(ST_INPUT, t->path, "post_processor '%s' is not supported; use a model with TemplateProcessing",
                        type);
    const json_t *list = json_object_get(post, "processors");
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(parse_post(t, json_array_get(list, i), templates, depth + 1));
    return ST_OK;
}

status_t tokenizer_parse_json(tokenizer_t *t, const json_t *root) {
    const json_t *version = json_object_get(root, "version");
    int templates = 0;
    if (!json_is_object(root)) return st_raise(ST_INPUT, t->path, "is not a JSON object");
    if (version && (!json_is_string(version) || strcmp(json_string_value(version), "1.0") != 0))
        return st_raise(ST_INPUT, t->path, "'version' is not \"1.0\"; save it with a present version of tokenizers");
    TRY(parse_model(t, json_object_get(root, "model")));
    TRY(tok_parse_norm(t, json_object_get(root, "normalizer"), 0));
    TRY(tok_parse_pre(t, json_object_get(root, "pre_tokenizer"), 0));
    TRY(tok_parse_decoder(t, json_object_get(root, "decoder"), 0));
    TRY(parse_added(t, json_object_get(root, "added_tokens")));
    TRY(added_finish(t));
    return parse_post(t, json_object_get(root, "post_processor"), &templates, 0);
}

/* NULL in *out when the file is not there and may be absent. */
static status_t load_json(const char *path, bool optional, json_t **out) {
    *out = NULL;
    FILE *f = fopen(path, "rb");
    if (!f) return optional && errno == ENOENT ? ST_OK : st_errno(ST_INPUT, path, "open", errno);
    json_error_t error;
    *out = json_loadf(f, JSON_ALLOW_NUL, &error);
    /* transformers writes model_max_length 1e30 as an integer; nothing that is read here is so large */
    if (!*out && json_error_code(&error) == json_error_numeric_overflow && !fseek(f, 0, SEEK_SET))
        *out = json_loadf(f, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
    fclose(f);
    return *out ? ST_OK : st_raise(ST_INPUT, path, "line %d: %s", error.line, error.text);
}

/* A token named as a string or as an object with `content`; -1 if there is none. */
static int32_t named_token(const tokenizer_t *t, const json_t *config, const char *key) {
    const json_t *v = json_object_get(config, key);
    if (json_is_object(v)) v = json_object_get(v, "content");
    const tok_entry_t *e =
        json_is_string(v) ? vocab_find(&t->vocab, json_string_value(v), json_string_length(v)) : NULL;
    return e ? e->id : -1;
}

static int32_t numbered_token(const tokenizer_t *t, const json_t *config) {
    const json_t *v = json_object_get(config, "eos_token_id");
    if (json_is_array(v)) v = json_array_get(v, 0);
    return json_is_integer(v) && vocab_at(&t->vocab, json_integer_value(v)) ? (int32_t)json_integer_value(v) : -1;
}

/* EOS, and the BOS that some models ask for beside tokenizer.json; a template in tokenizer.json goes before. */
static status_t read_beside(tokenizer_t *t, const char *dir) {
    static const char *const names[] = {"tokenizer_config.json", "special_tokens_map.json", "config.json"};
    strbuf_t path = {0};
    json_t *config = NULL;
    status_t st = ST_OK;
    for (int i = 0; i < 3; i++) {
        strbuf_clear(&path);
        TRY_GOTO(strbuf_addf(&path, "%s/%s", dir, names[i]), done);
        TRY_GOTO(load_json(path.data, true, &config), done);
        if (t->eos < 0) t->eos = i < 2 ? named_token(t, config, "eos_token") : numbered_token(t, config);
        int32_t bos =
            i == 0 && tok_json_bool(config, "add_bos_token", false) ? named_token(t, config, "bos_token") : -1;
        if (bos >= 0 && !t->front.len) TRY_GOTO(i32buf_push(&t->front, bos), done);
        json_decref(config);
        config = NULL;
    }
done:
    json_decref(config);
    strbuf_release(&path);
    return st;
}

status_t tokenizer_open_dir(const char *dir, tokenizer_t **out) {
    strbuf_t path = {0};
    json_t *root = NULL;
    tokenizer_t *t = NULL;
    status_t st;
    TRY(strbuf_addf(&path, "%s/tokenizer.json", dir));
    TRY_GOTO(load_json(path.data, false, &root), done);
    TRY_GOTO(tokenizer_alloc(path.data, &t), done);
    TRY_GOTO(tokenizer_parse_json(t, root), done);
    TRY_GOTO(read_beside(t, dir), done);
    tokenizer_seal(t);
    *out = t;
    t = NULL;
done:
    tokenizer_close(t);
    json_decref(root);
    strbuf_release(&path);
    return st;
}
