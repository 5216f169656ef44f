#include <string.h>
#include "kernels/buf.h"
#include "train/export/export.h"
#include "train/export/export_dir.h"

extern const export_format_t export_peft, export_merged;

const export_format_t *const export_formats[] = {&export_peft, &export_merged, NULL};

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

status_t export_run(const export_format_t *f, export_source_t *s, const char *dir, FILE *report) {
    if (f->check) TRY(f->check(s));
    TRY(export_dir_begin(f, dir));
    TRY(f->write(s, dir));
    return f->engines(s, report);
}
