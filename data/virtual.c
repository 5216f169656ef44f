#include "data/virtual.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

static void field_release(virtual_field_t *f) {
    for (int i = 0; i < f->n; i++) free(f->value[i]);
    free(f->value);
    free(f->name);
    *f = (virtual_field_t){0};
}

void virtual_release(virtual_layout_t *v) {
    for (int i = 0; i < v->n_field; i++) field_release(&v->field[i]);
    *v = (virtual_layout_t){0};
}

static status_t field_copy(const char *name, const char *const *value, int n, virtual_field_t *out) {
    void *memory;
    *out = (virtual_field_t){.name = buf_strdup(name)};
    if (!out->name) return ST_NOMEM;
    TRY(buf_calloc(&memory, n, sizeof *out->value, "labels"));
    out->value = memory;
    for (; out->n < n; out->n++)
        if (!(out->value[out->n] = buf_strdup(value[out->n]))) return ST_NOMEM;
    return ST_OK;
}

static bool same_labels(const virtual_field_t *f, const char *const *value, int n) {
    if (f->n != n) return false;
    for (int i = 0; i < n; i++)
        if (strcmp(f->value[i], value[i]) != 0) return false;
    return true;
}

static status_t check_labels(const char *name, const char *const *value, int n) {
    if (!name[0]) return st_raise(ST_USAGE, "method", "a field of the examples has no name; name one");
    if (n < 1) return st_raise(ST_USAGE, name, "the field has no labels; list them");
    for (int i = 0; i < n; i++)
        for (int j = 0; j < i; j++)
            if (strcmp(value[i], value[j]) == 0)
                return st_raise(ST_USAGE, name, "the label '%s' is listed twice; list it once", value[i]);
    return ST_OK;
}

status_t virtual_add_field(virtual_layout_t *v, const char *name, const char *const *value, int n, bool optional,
                           int *field) {
    TRY(check_labels(name, value, n));
    for (int i = 0; i < v->n_field; i++) {
        virtual_field_t *f = &v->field[i];
        if (strcmp(f->name, name) != 0) continue;
        if (!same_labels(f, value, n))
            return st_raise(ST_USAGE, name,
                            "two methods give the field different labels; give both the same list, in "
                            "the same order");
        f->optional = f->optional && optional;
        *field = i;
        return ST_OK;
    }
    if (v->n_field == VIRTUAL_MAX_FIELDS)
        return st_raise(ST_USAGE, name, "more than %d fields choose among virtual tokens; use fewer",
                        VIRTUAL_MAX_FIELDS);
    virtual_field_t *f = &v->field[v->n_field];
    status_t st = field_copy(name, value, n, f);
    if (st != ST_OK) {
        field_release(f);
        return st;
    }
    f->optional = optional;
    *field = v->n_field++;
    return ST_OK;
}

static int32_t *rows_of(virtual_layout_t *v, virtual_place_t place) {
    return place == VIRTUAL_PREFIX ? &v->prefix_rows : &v->slot_rows;
}

status_t virtual_reserve(virtual_layout_t *v, virtual_place_t place, int64_t rows, int32_t *first) {
    int32_t *given = rows_of(v, place);
    if (rows < 1 || rows > INT32_MAX - *given)
        return st_raise(ST_USAGE, "method",
                        "%lld virtual tokens beside %d; there must be 1 or more, and less than "
                        "2^31 in all",
                        (long long)rows, *given);
    *first = *given;
    *given += (int32_t)rows;
    return ST_OK;
}

status_t virtual_add_group(virtual_layout_t *v, virtual_group_t g) {
    const int64_t given = *rows_of(v, g.place);
    if (g.field < -1 || g.field >= v->n_field)
        return st_raise(ST_INTERNAL, "virtual_add_group", "field %d of %d", g.field, v->n_field);
    int64_t blocks = g.field < 0 ? 1 : v->field[g.field].n;
    bool missing = g.field >= 0 && g.missing >= 0;
    if (g.count < 1 || g.first < 0 || g.first + blocks * g.count > given || (missing && g.missing > given - g.count))
        return st_raise(ST_INTERNAL, "virtual_add_group", "%lld blocks of %d rows from %d on; %lld are reserved",
                        (long long)blocks, g.count, g.first, (long long)given);
    if (v->n_group == VIRTUAL_MAX_GROUPS)
        return st_raise(ST_USAGE, "method",
                        "more than %d groups of virtual tokens; use fewer methods with prompts or "
                        "prefixes",
                        VIRTUAL_MAX_GROUPS);
    if (g.field >= 0 && !missing) v->field[g.field].optional = false;
    v->group[v->n_group++] = g;
    return ST_OK;
}

static int32_t count_rows(const virtual_layout_t *v, bool prefix) {
    int64_t n = 0; /* a group counts once, whatever its blocks; all groups have distinct rows, so this stays small */
    for (int i = 0; i < v->n_group; i++)
        if ((v->group[i].place == VIRTUAL_PREFIX) == prefix) n += v->group[i].count;
    return n > INT32_MAX ? INT32_MAX : (int32_t)n;
}

int32_t virtual_slots(const virtual_layout_t *v) {
    return count_rows(v, false);
}

int32_t virtual_prefix(const virtual_layout_t *v) {
    return count_rows(v, true);
}

int32_t virtual_tokens(const virtual_layout_t *v) {
    return virtual_slots(v) + virtual_prefix(v);
}

int32_t virtual_shared(const virtual_layout_t *v) {
    int32_t n = 0;
    for (int i = 0; i < v->n_group && v->n_field == 0; i++)
        if (v->group[i].place == VIRTUAL_FIRST) n += v->group[i].count;
    return n;
}

int32_t virtual_label(const virtual_field_t *f, const char *value) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->value[i], value) == 0) return i;
    return -1;
}
