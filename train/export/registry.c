#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"
#include "train/export/export.h"
#include "train/export/export_dir.h"

extern const export_format_t export_peft, export_merged, export_prompt_embeddings, export_gguf_adapter;

const export_format_t *const export_formats[] = {&export_peft, &export_merged, &export_prompt_embeddings,
                                                 &export_gguf_adapter, NULL};

status_t export_format_find(const char *name, const export_format_t **out) {
    strbuf_t list = {0};
    for (int i = 0; export_formats[i]; i++) {
        if (!strcmp(export_formats[i]->name, name)) {
            *out = export_formats[i];
            strbuf_release(&list);
            return ST_OK;
        }
        TRY(strbuf_addf(&list, "%s%s", i ? ", " : "", export_formats[i]->name));
    }
    status_t st = st_raise(ST_USAGE, "export", "unknown format '%s'; there are %s", name, list.data);
    strbuf_release(&list);
    return st;
}

status_t export_refuse_added(const export_source_t *s, const char *where) {
    if (!s->model->n_new) return ST_OK;
    return st_raise(ST_USAGE, where,
                    "'%s' and the other special_tokens of the run have rows in the vocabulary of the base, which an "
                    "adapter does not change; use merged-safetensors",
                    s->special[0]);
}

/* What one of the format's functions prints, as text. */
static status_t print(status_t (*f)(const export_source_t *, FILE *), const export_source_t *s, char **out) {
    size_t size;
    FILE *stream = f ? open_memstream(out, &size) : NULL;
    if (!stream) return f ? st_nomem("README.md", 0) : ST_OK;
    status_t st = f(s, stream);
    return fclose(stream) && st == ST_OK ? st_nomem("README.md", 0) : st;
}

static status_t write_all(const export_format_t *f, export_source_t *s, const char *dir, const export_text_t *text) {
    TRY(export_dir_begin(f, dir, text));
    return f->write(s, dir);
}

status_t export_run(const export_format_t *f, export_source_t *s, const char *dir, FILE *report) {
    char *notes = NULL, *engines = NULL;
    if (f->check) TRY(f->check(s));
    status_t st = print(f->notes, s, &notes);
    if (st == ST_OK) st = print(f->engines, s, &engines);
    if (st == ST_OK) st = write_all(f, s, dir, &(export_text_t){notes, engines});
    if (st == ST_OK && fputs(engines, report) < 0) st = st_raise(ST_IO, "standard output", "cannot write the result");
    free(notes);
    free(engines);
    return st;
}
