#include "train/export/added_tokens.h"
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "data/publish.h"
#include "kernels/buf.h"
#include "train/export/export_dir.h"

static json_t *new_entry(const char *text) {
    return json_pack("{s:s, s:b, s:b, s:b, s:b, s:b}", "content", text, "single_word", 0, "lstrip", 0, "rstrip", 0,
                     "normalized", 0, "special", 1);
}

static bool listed(const json_t *list, const char *text) {
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *content = json_string_value(json_object_get(json_array_get(list, i), "content"));
        if (content && !strcmp(content, text)) return true;
    }
    return false;
}

/* tokenizer.json: the list `added_tokens`, whose entries carry their id. */
static status_t into_tokenizer(const export_source_t *s, json_t *root) {
    json_t *list = json_object_get(root, "added_tokens");
    if (!json_is_array(list)) {
        list = json_array();
        if (json_object_set_new(root, "added_tokens", list)) return st_nomem("tokenizer.json", 0);
    }
    for (int i = 0; i < s->n_special; i++) {
        if (listed(list, s->special[i])) continue;
        json_t *entry = new_entry(s->special[i]);
        json_int_t id = tokenizer_token_id(s->tokenizer, s->special[i]);
        if (!entry || json_object_set_new(entry, "id", json_integer(id)) || json_array_append_new(list, entry))
            return st_nomem("tokenizer.json", 0);
    }
    return ST_OK;
}

/* tokenizer_config.json: the map `added_tokens_decoder` from ids to entries, where there is one. */
static status_t into_config(const export_source_t *s, json_t *root) {
    json_t *map = json_object_get(root, "added_tokens_decoder");
    for (int i = 0; json_is_object(map) && i < s->n_special; i++) {
        char id[16];
        snprintf(id, sizeof id, "%d", (int)tokenizer_token_id(s->tokenizer, s->special[i]));
        if (!json_object_get(map, id) && json_object_set_new(map, id, new_entry(s->special[i])))
            return st_nomem("tokenizer_config.json", 0);
    }
    return ST_OK;
}

/* added_tokens.json: from texts to ids. */
static status_t into_list(const export_source_t *s, json_t *root) {
    for (int i = 0; i < s->n_special; i++)
        if (json_object_set_new(root, s->special[i], json_integer(tokenizer_token_id(s->tokenizer, s->special[i]))))
            return st_nomem("added_tokens.json", 0);
    return ST_OK;
}

static const struct {
    const char *name;
    status_t (*put)(const export_source_t *s, json_t *root);
} files[] = {
    {"tokenizer.json", into_tokenizer}, {"tokenizer_config.json", into_config}, {"added_tokens.json", into_list}};

/* Numbers that were read as reals because one of the file is beyond 64 bits. */
static void restore_integers(json_t *v) {
    const char *key;
    json_t *x;
    size_t i;
    json_object_foreach(v, key, x) {
        double d = json_real_value(x);
        if (json_is_real(x) && d == floor(d) && fabs(d) < 9e15)
            json_object_set_new(v, key, json_integer((json_int_t)d));
        else
            restore_integers(x);
    }
    json_array_foreach(v, i, x) {
        double d = json_real_value(x);
        if (json_is_real(x) && d == floor(d) && fabs(d) < 9e15)
            json_array_set_new(v, i, json_integer((json_int_t)d));
        else
            restore_integers(x);
    }
}

/* transformers writes model_max_length 1e30 as an integer. */
static json_t *load(FILE *f, json_error_t *e) {
    json_t *root = json_loadf(f, JSON_ALLOW_NUL, e);
    if (root || json_error_code(e) != json_error_numeric_overflow || fseek(f, 0, SEEK_SET)) return root;
    root = json_loadf(f, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, e);
    restore_integers(root);
    return root;
}

/* In the order of the original: readers need none, people do. */
static status_t write(const char *path, const json_t *root) {
    char *text = json_dumps(root, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
    if (!text) return st_nomem(path, 0);
    size_t n = strlen(text);
    text[n] = '\n'; /* in the place of the NUL */
    status_t st = publish_bytes(path, text, n + 1);
    free(text);
    return st;
}

static status_t convert(const export_source_t *s, const char *from, const char *to,
                        status_t (*put)(const export_source_t *, json_t *)) {
    json_error_t e;
    FILE *f = fopen(from, "rb");
    if (!f) return errno == ENOENT ? ST_OK : st_errno(ST_INPUT, from, "open", errno);
    json_t *root = load(f, &e);
    fclose(f);
    status_t st = json_is_object(root) ? put(s, root) : st_raise(ST_INPUT, from, "line %d: %s", e.line, e.text);
    if (st == ST_OK) st = write(to, root);
    json_decref(root);
    return st;
}

status_t added_tokens_file(const export_source_t *s, const char *dir, const char *name) {
    status_t (*put)(const export_source_t *, json_t *) = NULL;
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (!strcmp(files[i].name, name)) put = files[i].put;
    if (!put || !s->n_special) return export_dir_copy(s->tokenizer_dir, dir, name);
    strbuf_t from = {0}, to = {0};
    status_t st = strbuf_addf(&from, "%s/%s", s->tokenizer_dir, name);
    if (st == ST_OK) st = strbuf_addf(&to, "%s/%s", dir, name);
    if (st == ST_OK) st = convert(s, from.data, to.data, put);
    strbuf_release(&from);
    strbuf_release(&to);
    return st;
}
