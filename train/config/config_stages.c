/* The key `stages`: what a run trains on may change at shares of its steps, while the model, the optimiser and the
 * schedule go on. Every stage becomes a tree of its own, the run's with the stage's keys in it. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "train/config/config_load.h"
#include "train/config/config_tables.h"

enum { STAGES_MOST = 64 };

static const cfg_field_t no_fields[] = {{0}};
/* What may differ between stages, by section; a section that is not here is taken as a whole. */
static const struct {
    const char *section, *keys;
} partial[] = {{"data", "train|packing|filter"}, {"conditioning", "template"}};

static const char *keys_of(const char *section) {
    for (size_t i = 0; i < sizeof partial / sizeof *partial; i++)
        if (!strcmp(partial[i].section, section)) return partial[i].keys;
    return NULL;
}

bool config_stage_takes(const char *section, const char *key) {
    const char *list = keys_of(section);
    size_t n = strlen(key);
    for (const char *at = list; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL)
        if (!strncmp(at, key, n) && (at[n] == '|' || !at[n])) return true;
    return !list;
}

static status_t read_share(const config_load_t *l, const cfg_node_t *stage, double *out) {
    const cfg_node_t *share = cfg_node_get(stage, "share");
    char *end = NULL;
    if (cfg_node_is_null(share))
        return yaml_raise(l->name, share ? share->line : stage->line, "missing key 'share' in stages");
    *out = share->kind == YAML_SCALAR ? strtod(share->text, &end) : 0;
    if (share->kind == YAML_SCALAR && end != share->text && !*end && *out > 0 && *out <= 1) return ST_OK;
    return yaml_raise(l->name, share->line, "'share' in stages must be a number above 0 and at most 1, found '%s'",
                      share->kind == YAML_SCALAR ? yaml_quote(share->text).text : config_kind_of(share));
}

/* `conditioning: none` in a stage takes the template away; the tokens that the model has stay. */
static status_t without_template(const config_load_t *l, const cfg_node_t *own, cfg_node_t *root) {
    const cfg_node_t *common = cfg_node_get(root, "conditioning");
    cfg_node_t *merged, *none;
    if (cfg_node_is_null(common) || common->kind != YAML_MAP) return ST_OK;
    TRY(config_copy_map(l, common, &merged));
    TRY(config_new_node(l, YAML_SCALAR, own->line, &none));
    TRY(cfg_node_put(l->pool, merged, "template", none));
    return cfg_node_put(l->pool, root, "conditioning", merged);
}

static status_t merge_section(const config_load_t *l, const cfg_node_t *own, cfg_node_t *root) {
    const char *section = own->key, *keys = keys_of(section);
    if (!keys) return config_put_copy(l, root, section, own);
    bool none = own->kind == YAML_SCALAR && !strcmp(own->text, "none");
    if (none && !strcmp(section, "conditioning")) return without_template(l, own, root);
    if (cfg_node_is_null(own) || own->kind != YAML_MAP)
        return yaml_raise(l->name, own->line, "'%s' in stages must be a mapping, found %s", section,
                          config_kind_of(own));
    TRY(config_check_keys(l, "stages", own, no_fields, keys));
    const cfg_node_t *common = cfg_node_get(root, section);
    if (cfg_node_is_null(common)) return config_put_copy(l, root, section, own);
    cfg_node_t *merged;
    TRY(config_copy_map(l, common, &merged));
    for (const cfg_node_t *c = own->child; c; c = c->next) TRY(config_put_copy(l, merged, c->key, c));
    return cfg_node_put(l->pool, root, section, merged);
}

static status_t expand(const config_load_t *l, const cfg_node_t *stage, config_t *out) {
    config_load_t one = *l;
    cfg_node_t *none;
    double share;
    if (stage->kind != YAML_MAP)
        return yaml_raise(l->name, stage->line, "an entry of 'stages' must be a mapping with share, found %s",
                          config_kind_of(stage));
    TRY(config_check_keys(l, "stages", stage, no_fields, CONFIG_STAGE_KEYS));
    TRY(read_share(l, stage, &share));
    TRY(config_copy_map(l, l->root, &one.root));
    TRY(config_new_node(l, YAML_SCALAR, stage->line, &none));
    TRY(cfg_node_put(l->pool, one.root, "stages", none));
    for (const cfg_node_t *c = stage->child; c; c = c->next)
        if (strcmp(c->key, "share")) TRY(merge_section(&one, c, one.root));
    TRY(config_bind_sections(&one, out));
    out->share = share;
    return ST_OK;
}

status_t config_bind_stages(const config_load_t *l, const cfg_node_t *stages, config_t *out) {
    double sum = 0;
    void *memory;
    if (stages->kind != YAML_LIST)
        return yaml_raise(l->name, stages->line, "'stages' must be a list, found %s", config_kind_of(stages));
    if (!stages->count || stages->count > STAGES_MOST)
        return yaml_raise(l->name, stages->line, "'stages' must have 1 to %d entries, found %lld", STAGES_MOST,
                          (long long)stages->count);
    if (!out->training.max_steps)
        return yaml_raise(l->name, stages->line,
                          "'stages' needs 'max_steps' in training: stages are shares of a known number of steps");
    TRY(cfg_pool_alloc(l->pool, (size_t)stages->count * sizeof(config_t), &memory));
    config_t *stage = memory;
    int n = 0;
    for (const cfg_node_t *s = stages->child; s; s = s->next, n++) {
        TRY(expand(l, s, &stage[n]));
        sum += stage[n].share;
    }
    if (fabs(sum - 1) > 1e-6)
        return yaml_raise(l->name, stages->line, "the shares of 'stages' add up to %g; they must add up to 1", sum);
    out->stage = stage;
    out->stage_count = n;
    return ST_OK;
}
