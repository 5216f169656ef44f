#include "train/config/model_file.h"
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "data/nearest.h"
#include "train/config/yaml_tree.h"

static const char *const endings[] = {"", ".yaml", ".json", NULL};

/* --- finding --- */

static status_t try_file(const char *dir, const char *name, const char *ending, strbuf_t *out, bool *found) {
    strbuf_t path = {0};
    struct stat s;
    char absolute[PATH_MAX];
    status_t st = strbuf_addf(&path, "%s%s%s", dir, name, ending);
    *found = st == ST_OK && !stat(path.data, &s) && S_ISREG(s.st_mode) && realpath(path.data, absolute);
    strbuf_release(&path);
    TRY(st);
    return *found ? strbuf_adds(out, absolute) : ST_OK;
}

static status_t try_directory(const char *dir, const char *name, strbuf_t *out, bool *found) {
    for (const char *const *e = endings; *e && !*found; e++) TRY(try_file(dir, name, *e, out, found));
    return ST_OK;
}

/* Offers the names of the files in a directory, without their endings. */
static void offer_names(const char *dir, nearest_t *near, char *store, size_t size) {
    DIR *d = opendir(dir);
    if (!d) return;
    for (const struct dirent *e; (e = readdir(d));) {
        char name[64];
        const char *dot = strrchr(e->d_name, '.');
        int n = dot ? (int)(dot - e->d_name) : 0;
        if (n < 1 || n > 60 || (strcmp(dot, ".yaml") && strcmp(dot, ".json"))) continue;
        snprintf(name, sizeof name, "%.*s", n, e->d_name);
        nearest_offer_list(near, name, store, size);
    }
    closedir(d);
}

static status_t not_found(const char *text, const char *env) {
    char store[64];
    yaml_quote_t q = yaml_quote(text);
    nearest_t near = {.word = text};
    if (env) offer_names(env, &near, store, sizeof store);
    offer_names(GRAFT_CONFIGS_DIR, &near, store, sizeof store);
    if (near.best)
        return st_raise(ST_USAGE, "model.config", "there is no model '%s' (did you mean '%s'?)", q.text, near.best);
    return st_raise(ST_USAGE, "model.config", "there is no file or model '%s'; names are those of the files in %s",
                    q.text, GRAFT_CONFIGS_DIR);
}

status_t model_file_find(const char *dir, const char *text, strbuf_t *out) {
    bool found = false;
    const char *env = getenv("GRAFT_CONFIGS");
    strbuf_t named = {0};
    TRY(try_directory(text[0] == '/' ? "" : dir, text, out, &found));
    if (found) return ST_OK;
    if (strchr(text, '/')) return st_raise(ST_USAGE, "model.config", "there is no file '%s'", yaml_quote(text).text);
    if (env && *env) {
        status_t st = strbuf_addf(&named, "%s/", env);
        if (st == ST_OK) st = try_directory(named.data, text, out, &found);
        strbuf_release(&named);
        TRY(st);
    }
    if (!found) TRY(try_directory(GRAFT_CONFIGS_DIR "/", text, out, &found));
    return found ? ST_OK : not_found(text, env);
}

/* --- reading --- */

static json_t *convert_number(const char *text) {
    char *end;
    size_t n = strspn(text, "+-0123456789.eE");
    if (text[n] || !strpbrk(text, "0123456789")) return NULL;
    errno = 0;
    long long whole = strtoll(text, &end, 10);
    if (!*end && errno != ERANGE) return json_integer(whole);
    double real = strtod(text, &end);
    return *end || !isfinite(real) ? NULL : json_real(real);
}

static json_t *convert_scalar(const cfg_node_t *node) {
    if (cfg_node_is_null(node)) return json_null();
    if (!node->quoted) {
        if (!strcmp(node->text, "true")) return json_true();
        if (!strcmp(node->text, "false")) return json_false();
        json_t *number = convert_number(node->text);
        if (number) return number;
    }
    return json_string(node->text);
}

/* NULL when memory is out; the tree's depth is bounded by its parser. */
static json_t *convert(const cfg_node_t *node) {
    if (node->kind == YAML_SCALAR) return convert_scalar(node);
    json_t *out = node->kind == YAML_MAP ? json_object() : json_array();
    for (const cfg_node_t *c = node->child; out && c; c = c->next) {
        json_t *value = convert(c);
        int failed =
            node->kind == YAML_MAP ? json_object_set_new(out, c->key, value) : json_array_append_new(out, value);
        if (failed) {
            json_decref(out);
            return NULL;
        }
    }
    return out;
}

static status_t parse_yaml(const char *path, const char *text, size_t len, json_t **out) {
    cfg_pool_t pool = {0};
    cfg_node_t *root = NULL;
    status_t st = yaml_tree_parse(&pool, path, text, len, &root);
    if (st == ST_USAGE) st = ST_INPUT; /* the file is an input here, not the configuration */
    if (st == ST_OK && (!root || root->kind != YAML_MAP))
        st = st_raise(ST_INPUT, path, "must be a mapping of the keys of a config.json");
    if (st == ST_OK && !(*out = convert(root))) st = st_nomem("model configuration", 0);
    cfg_pool_release(&pool);
    return st;
}

static status_t parse_json(const char *path, const char *text, size_t len, json_t **out) {
    json_error_t e;
    json_t *value = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!value) return st_raise(ST_INPUT, path, "line %d: %s; the file is not valid JSON", e.line, e.text);
    if (!json_is_object(value)) {
        json_decref(value);
        return st_raise(ST_INPUT, path, "is not a JSON object");
    }
    *out = value;
    return ST_OK;
}

static status_t read_text(const char *path, strbuf_t *out) {
    FILE *f = fopen(path, "rb");
    if (!f) return st_errno(ST_INPUT, path, "open", errno);
    char chunk[4096];
    status_t st = ST_OK;
    for (size_t n = 1; st == ST_OK && n > 0 && out->len <= YAML_BYTES_MAX;) {
        n = fread(chunk, 1, sizeof chunk, f);
        st = strbuf_add(out, chunk, n);
    }
    if (st == ST_OK && ferror(f)) st = st_errno(ST_INPUT, path, "read", errno);
    if (st == ST_OK && out->len > YAML_BYTES_MAX)
        st = st_raise(ST_INPUT, path, "is larger than %d bytes", YAML_BYTES_MAX);
    fclose(f);
    return st;
}

status_t model_file_read(const char *path, json_t **out) {
    size_t n = strlen(path);
    bool json = n > 5 && !strcmp(path + n - 5, ".json");
    strbuf_t text = {0};
    status_t st = read_text(path, &text);
    if (st == ST_OK)
        st = json ? parse_json(path, text.data, text.len, out) : parse_yaml(path, text.data, text.len, out);
    strbuf_release(&text);
    return st;
}
