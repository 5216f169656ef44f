#include <string.h>
#include "train/config/config_tables.h"

static status_t dump_fields(const cfg_field_t *fields, const void *base, const char *indent, strbuf_t *out) {
    for (; fields->name; fields++) {
        TRY(strbuf_addf(out, "%s%s: ", indent, fields->name));
        TRY(cfg_format(fields, base, out));
        TRY(strbuf_adds(out, "\n"));
    }
    return ST_OK;
}

status_t config_dump(const config_t *config, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(strbuf_addf(out, "%s:\n", s->name));
        TRY(dump_fields(s->fields, (const char *)config + s->offset, "  ", out));
        if (i > 0) continue;
        const config_method_t *m = &config->method[0]; /* a configuration has exactly one */
        TRY(strbuf_addf(out, "method:\n  type: %s\n", m->type));
        TRY(dump_fields(m->fields, m->cfg, "  ", out));
    }
    return dump_fields(config_top_fields, config, "", out);
}

/* One line per key whose written form differs. */
static status_t diff_fields(const char *section, const cfg_field_t *fields, const void *before, const void *now,
                            strbuf_t *out) {
    strbuf_t a = {0}, b = {0};
    status_t st = ST_OK;
    for (const cfg_field_t *f = fields; st == ST_OK && f->name; f++) {
        if (f->flags & CFG_FREE) continue;
        strbuf_clear(&a);
        strbuf_clear(&b);
        st = cfg_format(f, before, &a);
        if (st == ST_OK) st = cfg_format(f, now, &b);
        if (st == ST_OK && strcmp(a.data, b.data) != 0)
            st = strbuf_addf(out, "%s%s%s: %s -> %s\n", section, *section ? "." : "", f->name, a.data, b.data);
    }
    strbuf_release(&a);
    strbuf_release(&b);
    return st;
}

status_t config_diff(const config_t *before, const config_t *now, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(diff_fields(s->name, s->fields, (const char *)before + s->offset, (const char *)now + s->offset, out));
        if (i > 0) continue;
        const config_method_t *a = &before->method[0], *b = &now->method[0];
        if (strcmp(a->type, b->type) != 0)
            TRY(strbuf_addf(out, "method.type: %s -> %s\n", a->type, b->type));
        else
            TRY(diff_fields("method", a->fields, a->cfg, b->cfg, out));
    }
    return diff_fields("", config_top_fields, before, now, out);
}
