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

static status_t dump_objective(const config_objective_t *o, const char *indent, strbuf_t *out) {
    if (!o->type) return ST_OK;
    TRY(strbuf_addf(out, "%sobjective:\n%s  type: %s\n", indent, indent, o->type));
    char deeper[16];
    snprintf(deeper, sizeof deeper, "%s  ", indent);
    return dump_fields(o->fields, o->cfg, deeper, out);
}

static status_t dump_stage(const config_t *stage, strbuf_t *out) {
    TRY(strbuf_adds(out, "  - share: "));
    TRY(cfg_format_real(stage->share, out));
    TRY(strbuf_adds(out, "\n"));
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        if (!s->staged) continue;
        TRY(strbuf_addf(out, "    %s:\n", s->name));
        for (const cfg_field_t *f = s->fields; f->name; f++) {
            if (!config_stage_takes(s->name, f->name)) continue;
            TRY(strbuf_addf(out, "      %s: ", f->name));
            TRY(cfg_format(f, (const char *)stage + s->offset, out));
            TRY(strbuf_adds(out, "\n"));
        }
    }
    return dump_objective(&stage->objective, "    ", out);
}

static status_t dump_stages(const config_t *config, strbuf_t *out) {
    if (config->stage_count) TRY(strbuf_adds(out, "stages:\n"));
    for (int i = 0; i < config->stage_count; i++) TRY(dump_stage(&config->stage[i], out));
    return ST_OK;
}

status_t config_dump(const config_t *config, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(strbuf_addf(out, "%s:\n", s->name));
        TRY(dump_fields(s->fields, (const char *)config + s->offset, "  ", out));
        if (i == 0) TRY(dump_methods(config, out));
        if (i == 0) TRY(dump_objective(&config->objective, "", out));
    }
    TRY(dump_stages(config, out));
    return dump_fields(config_top_fields, config, "", out);
}

/* A line if the key's written form differs. */
static status_t diff_field(const char *section, const cfg_field_t *f, const void *before, const void *now,
                           strbuf_t *out) {
    strbuf_t a = {0}, b = {0};
    if (f->flags & CFG_FREE) return ST_OK;
    status_t st = cfg_format(f, before, &a);
    if (st == ST_OK) st = cfg_format(f, now, &b);
    if (st == ST_OK && strcmp(a.data, b.data) != 0)
        st = strbuf_addf(out, "%s%s%s: %s -> %s\n", section, *section ? "." : "", f->name, a.data, b.data);
    strbuf_release(&a);
    strbuf_release(&b);
    return st;
}

static status_t diff_fields(const char *section, const cfg_field_t *fields, const void *before, const void *now,
                            strbuf_t *out) {
    for (const cfg_field_t *f = fields; f->name; f++) TRY(diff_field(section, f, before, now, out));
    return ST_OK;
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

static status_t diff_objective(const char *section, const config_objective_t *before, const config_objective_t *now,
                               strbuf_t *out) {
    if (!before->type || !now->type) return ST_OK;
    if (strcmp(before->type, now->type))
        return strbuf_addf(out, "%s.type: %s -> %s\n", section, before->type, now->type);
    return diff_fields(section, now->fields, before->cfg, now->cfg, out);
}

static status_t diff_stage(int number, const config_t *before, const config_t *now, strbuf_t *out) {
    char section[80];
    if (before->share != now->share) {
        TRY(strbuf_addf(out, "stages.%d.share: ", number));
        TRY(cfg_format_real(before->share, out));
        TRY(strbuf_adds(out, " -> "));
        TRY(cfg_format_real(now->share, out));
        TRY(strbuf_adds(out, "\n"));
    }
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        snprintf(section, sizeof section, "stages.%d.%s", number, s->name);
        for (const cfg_field_t *f = s->fields; s->staged && f->name; f++)
            if (config_stage_takes(s->name, f->name))
                TRY(diff_field(section, f, (const char *)before + s->offset, (const char *)now + s->offset, out));
    }
    snprintf(section, sizeof section, "stages.%d.objective", number);
    return diff_objective(section, &before->objective, &now->objective, out);
}

static status_t diff_stages(const config_t *before, const config_t *now, strbuf_t *out) {
    if (before->stage_count != now->stage_count)
        return strbuf_addf(out, "stages: %d -> %d entries\n", before->stage_count, now->stage_count);
    for (int i = 0; i < now->stage_count; i++) TRY(diff_stage(i + 1, &before->stage[i], &now->stage[i], out));
    return ST_OK;
}

status_t config_diff(const config_t *before, const config_t *now, strbuf_t *out) {
    for (int i = 0; i < CONFIG_SECTION_COUNT; i++) {
        const config_section_t *s = &config_sections[i];
        TRY(diff_fields(s->name, s->fields, (const char *)before + s->offset, (const char *)now + s->offset, out));
        if (i == 0) TRY(diff_methods(before, now, out));
        if (i == 0) TRY(diff_objective("objective", &before->objective, &now->objective, out));
    }
    TRY(diff_stages(before, now, out));
    return diff_fields("", config_top_fields, before, now, out);
}
