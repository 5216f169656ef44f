#include "train/export/export_dir.h"
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "data/publish.h"
#include "kernels/buf.h"

/* How an earlier export is told from somebody else's directory. */
static const char marker[] = "Exported by [graft]";

static bool known_file(const export_format_t *f, const char *name) {
    if (!strcmp(name, "README.md")) return true;
    for (int i = 0; f->files[i]; i++) {
        size_t n = strlen(f->files[i]);
        if (!strcmp(name, f->files[i])) return true;
        /* what a writer that was killed leaves behind (data/publish.h) */
        if (name[0] == '.' && !strncmp(name + 1, f->files[i], n) && !strncmp(name + 1 + n, ".tmp-", 5)) return true;
    }
    return false;
}

static status_t join(const char *dir, const char *name, strbuf_t *out) {
    strbuf_clear(out);
    return strbuf_addf(out, "%s/%s", dir, name);
}

static bool has_marker(const char *path, const char *format) {
    char text[512] = "";
    FILE *f = fopen(path, "rb");
    if (!f) return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    text[n] = 0;
    char wanted[128];
    snprintf(wanted, sizeof wanted, "%s as %s.", marker, format);
    return strstr(text, wanted) != NULL;
}

/* *foreign: a file that the format does not write, or NULL; *empty: nothing there at all. */
static status_t scan(const export_format_t *f, const char *dir, bool *empty, char **foreign) {
    DIR *d = opendir(dir);
    if (!d) return st_errno(ST_USAGE, dir, "open", errno);
    *empty = true;
    status_t st = ST_OK;
    for (const struct dirent *e; st == ST_OK && !*foreign && (e = readdir(d));) {
        if (!strcmp(e->d_name, ".") || !strcmp(e->d_name, "..")) continue;
        *empty = false;
        if (known_file(f, e->d_name)) continue;
        *foreign = buf_strdup(e->d_name);
        if (!*foreign) st = ST_NOMEM;
    }
    closedir(d);
    return st;
}

static status_t take_over(const export_format_t *f, const char *dir, strbuf_t *path) {
    bool empty;
    char *foreign = NULL;
    TRY(scan(f, dir, &empty, &foreign));
    status_t st = join(dir, "README.md", path);
    if (st == ST_OK && foreign)
        st = st_raise(ST_USAGE, dir, "holds other files already ('%s'); name a new or empty directory", foreign);
    else if (st == ST_OK && !empty && !has_marker(path->data, f->name))
        st = st_raise(ST_USAGE, dir, "is not empty and no earlier %s export; name a new or empty directory", f->name);
    free(foreign);
    TRY(st);
    TRY(join(dir, f->files[0], path));
    if (unlink(path->data) && errno != ENOENT) return st_errno(ST_IO, path->data, "replace", errno);
    return ST_OK;
}

/* The engines as a list, one a line. */
static status_t add_list(strbuf_t *out, const char *lines) {
    for (const char *end; (end = strchr(lines, '\n')); lines = end + 1)
        TRY(strbuf_addf(out, "- %.*s\n", (int)(end - lines), lines));
    return ST_OK;
}

static status_t readme_text(const export_format_t *f, const export_text_t *text, strbuf_t *out) {
    TRY(strbuf_addf(out, "# %s\n\n%s as %s.\n\n", f->doc, marker, f->name));
    if (text->notes) TRY(strbuf_addf(out, "%s\n", text->notes));
    TRY(strbuf_adds(out, "Loaded by\n\n"));
    TRY(add_list(out, text->engines));
    return strbuf_adds(out, "\n[graft]: version " GRAFT_VERSION "\n");
}

static status_t write_readme(const export_format_t *f, const char *dir, const export_text_t *texts, strbuf_t *path) {
    strbuf_t text = {0};
    status_t st = readme_text(f, texts, &text);
    if (st == ST_OK) st = join(dir, "README.md", path);
    if (st == ST_OK) st = publish_bytes(path->data, text.data, text.len);
    strbuf_release(&text);
    return st;
}

status_t export_dir_begin(const export_format_t *f, const char *dir, const export_text_t *text) {
    strbuf_t path = {0};
    status_t st = ST_OK;
    if (mkdir(dir, 0777)) {
        struct stat s;
        if (errno != EEXIST)
            st = st_errno(ST_USAGE, dir, "make the directory", errno);
        else if (stat(dir, &s) || !S_ISDIR(s.st_mode))
            st = st_raise(ST_USAGE, dir, "exists and is no directory; name another one");
        else
            st = take_over(f, dir, &path);
    }
    if (st == ST_OK) st = write_readme(f, dir, text, &path);
    strbuf_release(&path);
    return st;
}

status_t export_dir_json(const char *dir, const char *name, const json_t *value) {
    strbuf_t path = {0};
    char *text = json_dumps(value, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_REAL_PRECISION(17));
    status_t st = text ? join(dir, name, &path) : st_nomem(name, 0);
    if (st == ST_OK) {
        size_t n = strlen(text);
        text[n] = '\n'; /* in the place of the NUL */
        st = publish_bytes(path.data, text, n + 1);
    }
    free(text);
    strbuf_release(&path);
    return st;
}

static status_t copy_bytes(FILE *in, const char *from, const char *to) {
    publish_t p = {0};
    TRY(publish_begin(to, &p));
    char chunk[1 << 16];
    status_t st = ST_OK;
    for (size_t n; st == ST_OK && (n = fread(chunk, 1, sizeof chunk, in)) > 0;) st = publish_write(&p, chunk, n);
    if (st == ST_OK && ferror(in)) st = st_errno(ST_INPUT, from, "read", errno);
    if (st == ST_OK) return publish_commit(&p);
    publish_abort(&p);
    return st;
}

status_t export_dir_copy(const char *from, const char *dir, const char *name) {
    strbuf_t source = {0}, target = {0};
    status_t st = join(from, name, &source);
    if (st == ST_OK) st = join(dir, name, &target);
    FILE *in = st == ST_OK ? fopen(source.data, "rb") : NULL;
    if (in) {
        st = copy_bytes(in, source.data, target.data);
        fclose(in);
    } else if (st == ST_OK && errno != ENOENT) {
        st = st_errno(ST_INPUT, source.data, "open", errno);
    }
    strbuf_release(&source);
    strbuf_release(&target);
    return st;
}
