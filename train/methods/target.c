#define PCRE2_CODE_UNIT_WIDTH 8
#include "train/methods/target.h"
#include <pcre2.h>
#include <stdlib.h>
#include <string.h>
#include "data/nearest.h"
#include "kernels/buf.h"

static bool by_suffix(const char *module, const char *item) {
    size_t n = strlen(module), k = strlen(item);
    if (n < k || strcmp(module + n - k, item)) return false;
    return n == k || module[n - k - 1] == '.';
}

/* The name or the end of a name nearest to what was written; the first name if none is near. */
static const char *nearest_name(const target_names_t *t, const char *item) {
    nearest_t near = {.word = item};
    for (int64_t i = 0; i < t->n; i++) {
        nearest_offer(&near, t->name[i]);
        for (const char *dot = strchr(t->name[i], '.'); dot; dot = strchr(dot + 1, '.')) nearest_offer(&near, dot + 1);
    }
    return near.best ? near.best : t->n ? t->name[0] : "";
}

static status_t by_list(const char *const *items, int count, const target_names_t *t, bool *hit) {
    for (int i = 0; i < count; i++) {
        bool used = false;
        for (int64_t s = 0; s < t->n; s++)
            if (by_suffix(t->name[s], items[i])) used = hit[s] = true;
        if (!used)
            return st_raise(ST_USAGE, t->key, "'%s' names no %s of this model; nearest is '%s'", items[i], t->noun,
                            nearest_name(t, items[i]));
    }
    return ST_OK;
}

static status_t by_regex(const char *pattern, const target_names_t *t, bool *hit) {
    int error;
    PCRE2_SIZE at;
    /* re.fullmatch: anchored at both ends */
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &at, NULL);
    if (!code) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(error, text, sizeof text);
        return st_raise(ST_USAGE, t->key, "'%s' is not a regular expression: %s at offset %zu", pattern, (char *)text,
                        at);
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    bool any = false;
    for (int64_t s = 0; match && s < t->n; s++)
        if (pcre2_match(code, (PCRE2_SPTR)t->name[s], PCRE2_ZERO_TERMINATED, 0, 0, match, NULL) > 0)
            any = hit[s] = true;
    bool out_of_memory = !match;
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    if (out_of_memory) return st_nomem("regular expression", 0);
    if (!any)
        return st_raise(ST_USAGE, t->key, "'%s' matches no %s of this model; the whole name must match, as '%s'",
                        pattern, t->noun, nearest_name(t, pattern));
    return ST_OK;
}

status_t target_match(const cfg_patterns_t *patterns, const target_names_t *t, bool *hit) {
    memset(hit, 0, (size_t)t->n * sizeof *hit);
    return patterns->regex ? by_regex(patterns->regex, t, hit) : by_list(patterns->items, patterns->count, t, hit);
}

static status_t match_sites(const cfg_patterns_t *patterns, const model_t *m, bool *hit) {
    void *names;
    TRY(buf_calloc(&names, m->n_site, sizeof(char *), "module names"));
    const target_names_t t = {"target_modules", "linear", names, m->n_site};
    for (int64_t s = 0; s < m->n_site; s++) ((const char **)names)[s] = m->site[s].module;
    status_t st = target_match(patterns, &t, hit);
    free(names);
    return st;
}

status_t target_sites(const cfg_patterns_t *patterns, const model_t *m, bool *hit) {
    if (patterns->regex && !strcmp(patterns->regex, "all-linear")) {
        for (int64_t s = 0; s < m->n_site; s++) hit[s] = true; /* the head is no site */
        return ST_OK;
    }
    if (patterns->regex || patterns->count) return match_sites(patterns, m, hit);
    cfg_patterns_t standard = {.items = m->family->default_targets};
    while (standard.items[standard.count]) standard.count++;
    return match_sites(&standard, m, hit);
}
