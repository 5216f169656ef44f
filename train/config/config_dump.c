#include <stdio.h>
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

static status_t dump_methods(const config_t *c, strbuf_t *out) {
    bool list = c->method_count > 1;
    const char *indent = list ? "    " : "  ";
    TRY(strbuf_adds(out, "method:\n"));
    for (int i = 0; i < c->method_count; i++) {
        const config_method_t *m = &c->method[i];
        TRY(strbuf_addf(out, "  %stype: %s\n", list ? "- " : "", m->type));
        TRY(dump_fields(config_method_fields, m, indent, out));
        TRY(dump_fields(m->fields, m->cfg, indent, out));
    }
    return ST_OK;
}

static status_t dump_objective(const config_objective_t *o, strbuf_t *out) {
    if (!o->type) return ST_OK;
    TRY(strbuf_addf(out, "objective:\n  type: %s\n", o->type));
    return dump_fields(o->fields, o->cfg, "  ", out);
}

status_t config_dump(const config_t *config, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(strbuf_addf(out, "%s:\n", s->name));
        TRY(dump_fields(s->fields, (const char *)config + s->offset, "  ", out));
        if (i == 0) TRY(dump_methods(config, out));
        if (i == 0) TRY(dump_objective(&config->objective, out));
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

static status_t add_types(const config_t *c, strbuf_t *out) {
    for (int i = 0; i < c->method_count; i++) TRY(strbuf_addf(out, "%s%s", i ? ", " : "", c->method[i].type));
    return ST_OK;
}

static status_t diff_types(const config_t *before, const config_t *now, strbuf_t *out) {
    TRY(strbuf_adds(out, "method.type: "));
    TRY(add_types(before, out));
    TRY(strbuf_adds(out, " -> "));
    TRY(add_types(now, out));
    return strbuf_adds(out, "\n");
}

/* The order of methods counts: their virtual tokens stand in it. */
static status_t diff_methods(const config_t *before, const config_t *now, strbuf_t *out) {
    bool same = before->method_count == now->method_count;
    for (int i = 0; same && i < now->method_count; i++) same = !strcmp(before->method[i].type, now->method[i].type);
    if (!same) return diff_types(before, now, out);
    for (int i = 0; i < now->method_count; i++) {
        const config_method_t *a = &before->method[i], *b = &now->method[i];
        char section[80];
        snprintf(section, sizeof section, "method%s%s", now->method_count > 1 ? "." : "",
                 now->method_count > 1 ? a->type : "");
        TRY(diff_fields(section, config_method_fields, a, b, out));
        TRY(diff_fields(section, a->fields, a->cfg, b->cfg, out));
    }
    return ST_OK;
}

static status_t diff_objective(const config_objective_t *before, const config_objective_t *now, strbuf_t *out) {
    if (!before->type || !now->type) return ST_OK;
    if (strcmp(before->type, now->type)) return strbuf_addf(out, "objective.type: %s -> %s\n", before->type, now->type);
    return diff_fields("objective", now->fields, before->cfg, now->cfg, out);
}

status_t config_diff(const config_t *before, const config_t *now, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(diff_fields(s->name, s->fields, (const char *)before + s->offset, (const char *)now + s->offset, out));
        if (i == 0) TRY(diff_methods(before, now, out));
        if (i == 0) TRY(diff_objective(&before->objective, &now->objective, out));
    }
    return diff_fields("", config_top_fields, before, now, out);
}
