#include "train/tape/param.h"
#include <stdlib.h>
#include <string.h>
#include "kernels/buf.h"

enum { BLOB_ALIGN = 64 };

void param_set_init(param_set_t *s, dtype_t real) {
    *s = (param_set_t){.real = real};
}

void param_set_release(param_set_t *s) {
    for (int64_t i = 0; i < s->count; i++) free(s->item[i].name);
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

status_t param_declare(param_set_t *s, const char *name, int rank, const int64_t *dim, bool trainable, bool decay,
                       int *index) {
    if (param_find(s, name) >= 0) return st_raise(ST_INTERNAL, name, "parameter declared twice");
    void *items = s->item;
    TRY(buf_reserve(&items, &s->cap, s->count + 1, sizeof *s->item, "parameter table"));
    s->item = items;
    param_t p = {.trainable = trainable, .decay = decay, .value = {.dtype = s->real, .rank = rank}};
    int64_t n = 1;
    for (int i = 0; i < rank; i++) {
        p.value.dim[i] = dim[i];
        if (dim[i] <= 0 || __builtin_mul_overflow(n, dim[i], &n) || n > INT64_MAX / 16)
            return st_raise(ST_INPUT, name, "dimension %lld is out of range", (long long)dim[i]);
    }
    p.name = buf_strdup(name);
    if (!p.name) return ST_NOMEM;
    int64_t *used = trainable ? &s->n_trainable : &s->n_frozen;
    p.offset = *used;
    *used += n;
    /* frozen tensors start on cache lines; trainable ones lie densely, the blob is one long vector */
    if (!trainable) *used = (*used + 15) / 16 * 16;
    s->item[s->count] = p;
    *index = (int)s->count++;
    return ST_OK;
}

static status_t blob(void **out, int64_t n, size_t size, const char *what) {
    size_t bytes = ((size_t)n * size + BLOB_ALIGN - 1) / BLOB_ALIGN * BLOB_ALIGN + BLOB_ALIGN;
    void *p = aligned_alloc(BLOB_ALIGN, bytes);
    if (!p) return st_nomem(what, bytes);
    memset(p, 0, bytes);
    *out = p;
    return ST_OK;
}

status_t param_set_alloc(param_set_t *s, bool with_grad) {
    size_t size = dtype_size(s->real);
    TRY(blob(&s->trainable, s->n_trainable, size, "trainable weights"));
    TRY(blob(&s->frozen, s->n_frozen, size, "frozen weights"));
    if (with_grad) TRY(blob(&s->grad, s->n_trainable, size, "gradients"));
    for (int64_t i = 0; i < s->count; i++) {
        param_t *p = &s->item[i];
        char *base = p->trainable ? s->trainable : s->frozen;
        p->value.data = base + (size_t)p->offset * size;
    }
    return ST_OK;
}

view_t param_grad(const param_set_t *s, int index) {
    view_t v = s->item[index].value;
    v.data = s->grad && s->item[index].trainable ? (char *)s->grad + (size_t)s->item[index].offset * dtype_size(s->real)
                                                 : NULL;
    return v;
}
