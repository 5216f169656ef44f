#include "data/label.h"
#include <stdio.h>
#include <string.h>
#include "data/json_line.h"
#include "data/nearest.h"

enum { QUOTE_MAX = 40, LIST_MAX = 8 };

status_t label_find(const json_t *line, const char *name, const char *const *word, int n, int32_t *index) {
    const char *value;
    size_t len;
    const json_t *v = json_object_get(line, name);
    *index = -1;
    if (!v || json_is_null(v)) return ST_OK;
    TRY(json_line_string(line, name, false, &value, &len));
    for (int i = 0; i < n; i++)
        if (strlen(word[i]) == len && memcmp(word[i], value, len) == 0) {
            *index = i;
            break;
        }
    return ST_OK;
}

/* The first bytes of a text that comes from a file: no control characters, no half of a character. */
static void quote(const char *text, size_t n, char out[QUOTE_MAX + 4]) {
    size_t k = n;
    if (k > QUOTE_MAX)
        for (k = QUOTE_MAX; k > 0 && ((unsigned char)text[k] & 0xc0) == 0x80;) k--;
    for (size_t i = 0; i < k; i++) out[i] = (unsigned char)text[i] < ' ' || text[i] == 0x7f ? '?' : text[i];
    memcpy(out + k, k < n ? "..." : "", k < n ? 4 : 1);
}

/* "'a', 'b', 'c' and 7 more" */
static void list_words(const char *const *word, int n, char *out, size_t size) {
    size_t used = 0;
    int shown = n > LIST_MAX ? LIST_MAX : n;
    out[0] = 0;
    for (int i = 0; i < shown && used < size; i++) {
        char short_word[QUOTE_MAX + 4];
        quote(word[i], strlen(word[i]), short_word);
        used += (size_t)snprintf(out + used, size - used, "%s'%s'", i ? ", " : "", short_word);
    }
    if (n > shown && used < size) snprintf(out + used, size - used, " and %d more", n - shown);
}

status_t label_refuse(const json_t *line, const char *name, const char *const *word, int n) {
    char list[LIST_MAX * (QUOTE_MAX + 8) + 32], value[QUOTE_MAX + 4];
    const json_t *v = json_object_get(line, name);
    list_words(word, n, list, sizeof list);
    if (!json_is_string(v))
        return st_raise(ST_INPUT, NULL, "missing field '%s'; add it with one of the values %s", name, list);
    quote(json_string_value(v), json_string_length(v), value);
    nearest_t near = {.word = json_string_value(v)};
    for (int i = 0; i < n; i++) nearest_offer(&near, word[i]);
    if (near.best)
        return st_raise(ST_INPUT, NULL, "field '%s' has the unknown value '%s'; did you mean '%s'?", name, value,
                        near.best);
    return st_raise(ST_INPUT, NULL, "field '%s' has the unknown value '%s'; use one of %s", name, value, list);
}

status_t label_read(const json_t *line, const virtual_layout_t *v, const int32_t *standard, int32_t *label) {
    for (int i = 0; i < v->n_field; i++) {
        const virtual_field_t *f = &v->field[i];
        const char *const *word = (const char *const *)f->value;
        TRY(label_find(line, f->name, word, f->n, &label[i]));
        if (label[i] >= 0) continue;
        if (standard && standard[i] >= 0)
            label[i] = standard[i];
        else if (!f->optional)
            return label_refuse(line, f->name, word, f->n);
    }
    return ST_OK;
}
