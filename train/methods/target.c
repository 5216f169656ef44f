#define PCRE2_CODE_UNIT_WIDTH 8
#include "train/methods/target.h"
#include <pcre2.h>
#include <string.h>

static bool by_suffix(const char *module, const char *item) {
    size_t n = strlen(module), k = strlen(item);
    if (n < k || strcmp(module + n - k, item)) return false;
    return n == k || module[n - k - 1] == '.';
}

static status_t by_list(const char *const *items, int count, const model_t *m, bool *hit) {
    for (int i = 0; i < count; i++) {
        bool used = false;
        for (int64_t s = 0; s < m->n_site; s++)
            if (by_suffix(m->site[s].module, items[i])) used = hit[s] = true;
        if (!used)
            return st_raise(ST_USAGE, "target_modules", "'%s' names no linear of this model; its first is '%s'",
                            items[i], m->n_site ? m->site[0].module : "");
    }
    return ST_OK;
}

static status_t by_regex(const char *pattern, const model_t *m, bool *hit) {
    int error;
    PCRE2_SIZE at;
    /* re.fullmatch: anchored at both ends */
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED,
                                     PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF, &error, &at, NULL);
    if (!code) {
        PCRE2_UCHAR text[128];
        pcre2_get_error_message(error, text, sizeof text);
        return st_raise(ST_USAGE, "target_modules", "'%s' is not a regular expression: %s at offset %zu", pattern,
                        (char *)text, at);
    }
    pcre2_match_data *match = pcre2_match_data_create_from_pattern(code, NULL);
    bool any = false;
    for (int64_t s = 0; match && s < m->n_site; s++)
        if (pcre2_match(code, (PCRE2_SPTR)m->site[s].module, PCRE2_ZERO_TERMINATED, 0, 0, match, NULL) > 0)
            any = hit[s] = true;
    bool out_of_memory = !match;
    pcre2_match_data_free(match);
    pcre2_code_free(code);
    if (out_of_memory) return st_nomem("regular expression", 0);
    if (!any)
        return st_raise(ST_USAGE, "target_modules",
                        "'%s' matches no linear of this model; the whole module name must match, as '%s'", pattern,
                        m->n_site ? m->site[0].module : "");
    return ST_OK;
}

status_t target_sites(const cfg_patterns_t *patterns, const model_t *m, bool *hit) {
    memset(hit, 0, (size_t)m->n_site * sizeof *hit);
    if (patterns->regex && !strcmp(patterns->regex, "all-linear")) {
        for (int64_t s = 0; s < m->n_site; s++) hit[s] = true; /* the head is no site */
        return ST_OK;
    }
    if (patterns->regex) return by_regex(patterns->regex, m, hit);
    if (patterns->count) return by_list(patterns->items, patterns->count, m, hit);
    int count = 0;
    while (m->family->default_targets[count]) count++;
    return by_list(m->family->default_targets, count, m, hit);
}
