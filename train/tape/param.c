#include "train/tape/param.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

void param_set_init(param_set_t *s, dtype_t real) {
    *s = (param_set_t){.real = real};
}

void param_set_release(param_set_t *s) {
    for (int64_t i = 0; i < s->count; i++) free(s->item[i].name);
    param_set_unplace(s);
    free(s->item);
    free(s->trainable);
    free(s->frozen);
    free(s->grad);
    *s = (param_set_t){0};
}

int param_find(const param_set_t *s, const char *name) {
    for (int64_t i = 0; i < s->count; i++)
        if (!strcmp(s->item[i].name, name)) return (int)i;
    return -1;
}

static char *scoped(const param_set_t *s, const char *name) {
    strbuf_t full = {0};
    if (!s->scope) return buf_strdup(name);
    if (strbuf_addf(&full, "%s%s", s->scope, name) == ST_OK) return full.data;
    strbuf_release(&full);
    return NULL;
}

status_t param_declare(param_set_t *s, const char *name, int rank, const int64_t *dim, bool trainable, bool decay,
                       int *index) {
    param_t p = {.trainable = trainable,
                 .decay = decay,
                 .lr_scale = 1,
                 .window_of = -1,
                 .value = {.dtype = s->real, .rank = rank}};
    int64_t n = 1;
    for (int i = 0; i < rank; i++) {
        p.value.dim[i] = dim[i];
        if (dim[i] <= 0 || __builtin_mul_overflow(n, dim[i], &n) || n > INT64_MAX / 16)
            return st_raise(ST_INPUT, name, "dimension %lld is out of range", (long long)dim[i]);
    }
    p.name = scoped(s, name);
    if (!p.name) return ST_NOMEM;
    p.own = p.name + (s->scope ? strlen(s->scope) : 0);
    void *items = s->item;
    status_t st = param_find(s, p.name) >= 0
                      ? st_raise(ST_INTERNAL, p.name, "parameter declared twice")
                      : buf_reserve(&items, &s->cap, s->count + 1, sizeof *s->item, "parameters");
    if (st != ST_OK) {
        free(p.name);
        return st;
    }
    s->item = items;
    s->item[s->count] = p;
    *index = (int)s->count++;
    return ST_OK;
}

status_t param_declare_window(param_set_t *s, const char *name, int of, int64_t first, int64_t rows, int *index) {
    const view_t *whole = &s->item[of].value;
    const int64_t dim[2] = {rows, whole->dim[1]};
    if (whole->rank != 2 || first < 0 || rows > whole->dim[0] || first > whole->dim[0] - rows)
        return st_raise(ST_INTERNAL, name, "rows %lld to %lld are not in '%s'", (long long)first,
                        (long long)(first + rows), s->item[of].name);
    TRY(param_declare(s, name, 2, dim, true, true, index));
    s->item[*index].window_of = of;
    s->item[*index].window_first = first;
    return ST_OK;
}

void param_train(param_set_t *s, int index) {
    s->item[index].trainable = !s->item[index].idle;
}

void param_idle(param_set_t *s, int index) {
    s->item[index].idle = true;
    s->item[index].trainable = false;
}

static bool has_window(const param_set_t *s, int index) {
    for (int64_t i = 0; i < s->count; i++)
        if (s->item[i].window_of == index) return true;
    return false;
}

void param_share(param_set_t *s, int index, const param_set_t *owner) {
    param_t *p = &s->item[index];
    int i = param_find(owner, p->name);
    const param_t *o = i < 0 ? p : &owner->item[i];
    if (i < 0 || p->trainable || o->trainable) return;
    if (has_window(s, index) || has_window(owner, i)) return;
    if (memcmp(o->value.dim, p->value.dim, (size_t)p->value.rank * sizeof *p->value.dim)) return;
    p->shared = true;
    p->owner = o;
    p->value.data = o->value.data;
}

/* Frozen tensors start on cache lines; trainable ones lie densely: the blob is one long vector. */
static void place(param_set_t *s) {
    s->n_trainable = s->n_frozen = s->n_shared = 0;
    for (int64_t i = 0; i < s->count; i++) {
        param_t *p = &s->item[i];
        int64_t *used = p->trainable ? &s->n_trainable : p->shared ? &s->n_shared : &s->n_frozen;
        p->offset = *used;
        *used += view_count(&p->value);
        if (!p->trainable && !p->shared) *used = (*used + 15) / 16 * 16;
    }
}

status_t param_set_alloc(param_set_t *s, bool with_grad) {
    size_t size = dtype_size(s->real);
    place(s);
    TRY(buf_pages(&s->trainable, (size_t)s->n_trainable * size, "trainable weights"));
    TRY(buf_pages(&s->frozen, (size_t)s->n_frozen * size, "frozen weights"));
    if (with_grad) TRY(buf_pages(&s->grad, (size_t)s->n_trainable * size, "gradients"));
    for (int64_t i = 0; i < s->count; i++) {
        param_t *p = &s->item[i];
        if (p->shared) continue;
        char *base = p->trainable ? s->trainable : s->frozen;
        p->value.data = base + (size_t)p->offset * size;
        if (p->window_of < 0) continue;
        const param_t *whole = &s->item[p->window_of]; /* declared before, so it has its place already */
        if (whole->trainable) return st_raise(ST_INTERNAL, p->name, "'%s' is trained as a whole", whole->name);
        p->value.data = (char *)whole->value.data + (size_t)(p->window_first * p->value.dim[1]) * size;
    }
    return ST_OK;
}

view_t param_grad(const param_set_t *s, int index) {
    view_t v = s->item[index].value;
    v.data = s->grad && s->item[index].trainable ? (char *)s->grad + (size_t)s->item[index].offset * dtype_size(s->real)
                                                 : NULL;
    return v;
}
